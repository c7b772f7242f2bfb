defmodule PowRedisCache.RedisClient do
  @moduledoc """
  A minimal Redis client, so that tests do not check the package with itself.
  """

  @timeout 30_000

  @doc "Connects to a port of the loopback address."
  def connect(port) do
    :gen_tcp.connect({127, 0, 0, 1}, port, [
      :binary,
      active: false,
      packet: :line,
      nodelay: true,
      buffer: 1_048_576
    ])
  end

  def connect!(port) do
    {:ok, client} = connect(port)
    client
  end

  def close(client), do: :gen_tcp.close(client)

  @doc """
  Sends a command and returns `{:ok, reply}`, or `{:error, message}` for an error reply. Follows `MOVED`
  redirections.
  """
  def command(client, arguments) do
    case pipeline(client, [arguments]) do
      {:ok, [{:error, "MOVED " <> target}]} ->
        node = target |> String.split(":") |> List.last() |> String.to_integer() |> connect!()
        reply = command(node, arguments)
        close(node)
        reply

      {:ok, [{:error, message}]} ->
        {:error, message}

      {:ok, [reply]} ->
        {:ok, reply}

      error ->
        error
    end
  end

  def command!(client, arguments) do
    {:ok, reply} = command(client, arguments)
    reply
  end

  @doc "Sends commands in one pipeline and returns `{:ok, replies}`."
  def pipeline(client, commands) do
    with :ok <- :gen_tcp.send(client, Enum.map(commands, &pack/1)) do
      read_all(client, length(commands), [])
    end
  end

  @doc "The number of calls of each command, by its name in lower case."
  def command_counts(client) do
    for line <- client |> command!(["INFO", "commandstats"]) |> String.split("\r\n"),
        [_, name, calls] <- [Regex.run(~r/^cmdstat_([^:]+):calls=(\d+)/, line)],
        into: %{},
        do: {name, String.to_integer(calls)}
  end

  defp pack(arguments) do
    packed = Enum.map(arguments, &to_string/1)
    ["*#{length(packed)}\r\n" | Enum.map(packed, &["$#{byte_size(&1)}\r\n", &1, "\r\n"])]
  end

  defp read_all(_client, 0, replies), do: {:ok, Enum.reverse(replies)}

  defp read_all(client, left, replies) do
    with {:ok, reply} <- read(client), do: read_all(client, left - 1, [reply | replies])
  end

  defp read(client) do
    with {:ok, line} <- :gen_tcp.recv(client, 0, @timeout) do
      case String.trim_trailing(line, "\r\n") do
        "+" <> text -> {:ok, text}
        "-" <> message -> {:ok, {:error, message}}
        ":" <> number -> {:ok, String.to_integer(number)}
        "$-1" -> {:ok, nil}
        "$" <> size -> read_bulk(client, String.to_integer(size))
        "*-1" -> {:ok, nil}
        "*" <> size -> read_all(client, String.to_integer(size), [])
      end
    end
  end

  defp read_bulk(client, size) do
    :ok = :inet.setopts(client, packet: :raw)
    {:ok, bulk} = :gen_tcp.recv(client, size + 2, @timeout)
    "\r\n" = binary_part(bulk, size, 2)
    :ok = :inet.setopts(client, packet: :line)
    {:ok, binary_part(bulk, 0, size)}
  end
end
