defmodule PowRedisCache.RedisServer do
  @moduledoc """
  A Redis server of the tests' own: on a free port of the loopback address, in a folder of its own.
  It can be killed, frozen, and started again: on the same port, with what it has on disk. It ends
  with the process that started it, however that ends.
  """

  alias PowRedisCache.{Ports, Processes, RedisClient, Wait}

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
    port = options[:port] || Ports.free()
    folder = Path.join(System.tmp_dir!(), "pow_redis_cache_#{port}_#{unique()}")
    File.mkdir_p!(folder)

    launch!(%__MODULE__{port: port, folder: folder, arguments: arguments, options: options})
  end

  @doc "Starts a server again that was stopped or killed; `arguments` are added to its own."
  @spec start_again!(t(), [String.t()]) :: t()
  def start_again!(%__MODULE__{} = server, arguments \\ []) do
    Processes.stop(server.process)
    launch!(%{server | arguments: server.arguments ++ arguments})
  end

  @doc "The server's program: `redis-server`, or what the environment names."
  @spec program() :: String.t()
  def program, do: System.get_env("REDIS_SERVER", "redis-server")

  @doc "Takes the server's life (SIGKILL)."
  def kill(%__MODULE__{process: process}), do: Processes.kill(process)

  @doc "Freezes the server (SIGSTOP)."
  def pause(%__MODULE__{process: process}), do: Processes.pause(process)

  @doc "Lets a frozen server go on (SIGCONT)."
  def resume(%__MODULE__{process: process}), do: Processes.resume(process)

  @doc "Stops the server and removes its folder; may be called from any process."
  def stop(%__MODULE__{} = server) do
    Processes.stop(server.process)
    File.rm_rf!(server.folder)
    :ok
  end

  @doc "The server's URL."
  @spec url(t()) :: String.t()
  def url(%__MODULE__{port: port}), do: "redis://127.0.0.1:#{port}"

  @doc "Sends one command over a connection of its own."
  def command(%__MODULE__{} = server, arguments) do
    with {:ok, client} <- RedisClient.connect(server.port) do
      try do
        with :ok <- log_in(client, server.options[:password]) do
          RedisClient.command(client, arguments)
        end
      after
        RedisClient.close(client)
      end
    end
  end

  def command!(server, arguments) do
    {:ok, reply} = command(server, arguments)
    reply
  end

  @doc "A field of `INFO`, `nil` where the server does not answer or has none."
  def info(server, section, field), do: info_of(server, ["INFO", section], field)

  @doc "A field of the text that a command answers with."
  def info_of(server, command, field) do
    with {:ok, text} when is_binary(text) <- command(server, command),
         [_, value] <- Regex.run(~r/^#{field}:(.*)\r$/m, text) do
      value
    else
      _ -> nil
    end
  end

  defp launch!(server) do
    own = [
      "--port",
      "#{server.port}",
      "--bind",
      "127.0.0.1",
      "--dir",
      server.folder,
      "--save",
      ""
    ]

    output = Path.join(server.folder, "output")
    process = Processes.start!(program(), own ++ server.arguments, output)
    server = %{server | process: process}

    if Keyword.get(server.options, :wait, true) do
      Wait.until(fn -> command(server, ["PING"]) == {:ok, "PONG"} or died!(server, output) end)
    end

    server
  end

  defp died!(server, output) do
    if not Processes.alive?(server.process), do: raise("no server: #{File.read!(output)}")
  end

  defp log_in(_client, nil), do: :ok

  defp log_in(client, password) do
    with {:ok, "OK"} <- RedisClient.command(client, ["AUTH", password]), do: :ok
  end

  defp unique, do: System.unique_integer([:positive])
end
