defmodule PowRedisCache.RedisNode do
  @moduledoc """
  A Redis server that can be killed, frozen, and started again: on the same port, with what it has
  on disk. It ends with the process that started it, however that ends.
  """

  alias PowRedisCache.{Processes, RedisClient, RedisServer, Wait}

  defstruct [:port, :folder, :arguments, :process, options: []]

  @type t :: %__MODULE__{
          port: :inet.port_number(),
          folder: Path.t(),
          arguments: [String.t()],
          process: Processes.t() | nil
        }

  @durable ["--appendonly", "yes", "--appendfsync", "always"]

  @doc "Arguments of a server that says OK only to what is on disk."
  def durable, do: @durable

  @doc """
  Starts a server and waits until it answers. Options: `:port`, and `:password`, with which to ask
  whether it does; `:wait`, `false` for a server that does not answer plain TCP.
  """
  @spec start!([String.t()], keyword()) :: t()
  def start!(arguments \\ [], options \\ []) do
    port = options[:port] || free_port()
    folder = Path.join(System.tmp_dir!(), "pow_redis_cache_#{port}_#{unique()}")
    File.mkdir_p!(folder)

    launch!(%__MODULE__{port: port, folder: folder, arguments: arguments, options: options})
  end

  @doc "Starts a server again that was stopped or killed; `arguments` are added to its own."
  @spec start_again!(t(), [String.t()]) :: t()
  def start_again!(%__MODULE__{} = node, arguments \\ []) do
    Processes.stop(node.process)
    launch!(%{node | arguments: node.arguments ++ arguments})
  end

  @doc "Takes the server's life (SIGKILL)."
  def kill(%__MODULE__{process: process}), do: Processes.kill(process)

  @doc "Freezes the server (SIGSTOP)."
  def pause(%__MODULE__{process: process}), do: Processes.pause(process)

  @doc "Lets a frozen server go on (SIGCONT)."
  def resume(%__MODULE__{process: process}), do: Processes.resume(process)

  @doc "Stops the server and removes its folder; may be called from any process."
  def stop(%__MODULE__{} = node) do
    Processes.stop(node.process)
    File.rm_rf!(node.folder)
    :ok
  end

  def url(%__MODULE__{port: port}), do: "redis://127.0.0.1:#{port}"

  @doc "Sends one command over a connection of its own."
  def command(%__MODULE__{} = node, arguments) do
    with {:ok, client} <- RedisClient.connect(node.port) do
      try do
        with :ok <- log_in(client, node.options[:password]) do
          RedisClient.command(client, arguments)
        end
      after
        RedisClient.close(client)
      end
    end
  end

  def command!(node, arguments) do
    {:ok, reply} = command(node, arguments)
    reply
  end

  @doc "A field of `INFO`, `nil` where the server does not answer or has none."
  def info(node, section, field), do: info_of(node, ["INFO", section], field)

  @doc "A field of the text that a command answers with."
  def info_of(node, command, field) do
    with {:ok, text} when is_binary(text) <- command(node, command),
         [_, value] <- Regex.run(~r/^#{field}:(.*)\r$/m, text) do
      value
    else
      _ -> nil
    end
  end

  @doc """
  A port of the loopback address that is free together with others, each so much higher. It lies
  below those that the system gives to clients, so that it stays free while the server is down.
  """
  def free_port(others \\ []) do
    port = Enum.random(10_000..20_000)
    if Enum.all?([0 | others], &free?(port + &1)), do: port, else: free_port(others)
  end

  defp free?(port) do
    with {:ok, socket} <- :gen_tcp.listen(port, ip: {127, 0, 0, 1}) do
      :gen_tcp.close(socket) == :ok
    else
      {:error, _reason} -> false
    end
  end

  defp launch!(node) do
    own = ["--port", "#{node.port}", "--bind", "127.0.0.1", "--dir", node.folder, "--save", ""]
    output = Path.join(node.folder, "output")
    process = Processes.start!(RedisServer.program(), own ++ node.arguments, output)
    node = %{node | process: process}

    if Keyword.get(node.options, :wait, true) do
      Wait.until(fn -> command(node, ["PING"]) == {:ok, "PONG"} or died!(node, output) end)
    end

    node
  end

  defp died!(node, output) do
    if not Processes.alive?(node.process), do: raise("no server: #{File.read!(output)}")
  end

  defp log_in(_client, nil), do: :ok

  defp log_in(client, password) do
    with {:ok, "OK"} <- RedisClient.command(client, ["AUTH", password]), do: :ok
  end

  defp unique, do: System.unique_integer([:positive])
end
