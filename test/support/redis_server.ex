defmodule PowRedisCache.RedisServer do
  @moduledoc """
  A private Redis server, on a free port of the loopback address and with its own folder. It can be
  killed, suspended and restarted on the same port with the data on disk. It ends with the process that
  started it, even if that is killed.
  """

  alias PowRedisCache.{Commands, Ports, Processes, RedisClient, Wait}

  defstruct [:port, :folder, :arguments, :process, options: []]

  @type t :: %__MODULE__{
          port: :inet.port_number(),
          folder: Path.t(),
          arguments: [String.t()],
          process: Processes.t() | nil
        }

  @durable ["--appendonly", "yes", "--appendfsync", "always"]

  @doc "Arguments of a server that acknowledges a write only after it is on disk."
  def durable, do: @durable

  @doc """
  Starts a server and waits until it replies to `PING`. Options: `:port`; `:password`, for the `PING`;
  `wait: false`, for a server that does not accept plain TCP.
  """
  @spec start!([String.t()], keyword()) :: t()
  def start!(arguments \\ [], options \\ []) do
    port = options[:port] || Ports.free()
    folder = Path.join(System.tmp_dir!(), "pow_redis_cache_#{port}_#{unique()}")
    File.mkdir_p!(folder)

    launch!(%__MODULE__{port: port, folder: folder, arguments: arguments, options: options})
  end

  @doc "Restarts a stopped or killed server with further arguments."
  @spec start_again!(t(), [String.t()]) :: t()
  def start_again!(%__MODULE__{} = server, arguments \\ []) do
    Processes.stop(server.process)
    launch!(%{server | arguments: server.arguments ++ arguments})
  end

  @doc "The server's program: `$REDIS_SERVER`, or `redis-server`."
  @spec program() :: String.t()
  def program, do: System.get_env("REDIS_SERVER", "redis-server")

  @doc "Kills the server (SIGKILL)."
  def kill(%__MODULE__{process: process}), do: Processes.kill(process)

  @doc "Suspends the server (SIGSTOP)."
  def pause(%__MODULE__{process: process}), do: Processes.pause(process)

  @doc "Resumes a suspended server (SIGCONT)."
  def resume(%__MODULE__{process: process}), do: Processes.resume(process)

  @doc "Ends the server and removes its folder. Any process may call it."
  def stop(%__MODULE__{} = server) do
    Processes.stop(server.process)
    File.rm_rf!(server.folder)
    :ok
  end

  @doc "The server's URL."
  @spec url(t()) :: String.t()
  def url(%__MODULE__{port: port}), do: "redis://127.0.0.1:#{port}"

  @doc """
  The server's URL with the login of a user who has the permissions that the package needs, and no others.
  """
  @spec app_url(t()) :: String.t()
  def app_url(%__MODULE__{port: port}), do: "redis://app:app@127.0.0.1:#{port}"

  @doc "Sends one command over a new connection."
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

  @doc "A field of `INFO`, or `nil` if the server does not reply or has no such field."
  def info(server, section, field), do: info_of(server, ["INFO", section], field)

  @doc "A field of a command's text reply."
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
      # A server without persistence is a finding of the doctor.
      "--save",
      "3600 1"
    ]

    output = Path.join(server.folder, "output")
    process = Processes.start!(program(), own ++ app_user(server) ++ server.arguments, output)
    server = %{server | process: process}

    if Keyword.get(server.options, :wait, true) do
      Wait.until(fn -> command(server, ["PING"]) == {:ok, "PONG"} or died!(server, output) end)
    end

    server
  end

  # A server does not start with rules for commands that it does not know.
  defp app_user(%{arguments: arguments}) do
    topology = if "--cluster-enabled" in arguments, do: :cluster, else: :standalone

    if "--rename-command" in arguments,
      do: [],
      else: ["--user", "app", "on", ">app" | Commands.key_rules() ++ commands(topology)]
  end

  # Tests may set `:near_cache`.
  defp commands(topology), do: Commands.acl_rules(topology, true)

  defp died!(server, output) do
    if not Processes.alive?(server.process),
      do: raise("the server did not start: #{File.read!(output)}")
  end

  defp log_in(_client, nil), do: :ok

  defp log_in(client, password) do
    with {:ok, "OK"} <- RedisClient.command(client, ["AUTH", password]), do: :ok
  end

  defp unique, do: System.unique_integer([:positive])
end
