defmodule PowRedisCache.RedisServer do
  @moduledoc """
  A Redis server of the tests' own: on a free port of the loopback address, in a folder of its own,
  without persistence. It ends with the process that started it, however that ends.
  """

  alias PowRedisCache.{RedisClient, Wait}

  defstruct [:port, :folder, :process]

  @type t :: %__MODULE__{port: :inet.port_number(), folder: Path.t(), process: port()}

  @doc "Starts a server and waits until it answers."
  @spec start!([String.t()]) :: t()
  def start!(arguments \\ []) do
    port = free_port()

    folder =
      Path.join(
        System.tmp_dir!(),
        "pow_redis_cache_#{port}_#{System.unique_integer([:positive])}"
      )

    File.mkdir_p!(folder)

    options = [
      "--port",
      "#{port}",
      "--bind",
      "127.0.0.1",
      "--dir",
      folder,
      "--save",
      "",
      "--loglevel",
      "warning"
    ]

    # The shell holds the server until its standard input closes, which it does when the VM ends.
    script = ~s(#{program()} "$@" & pid=$!; cat > /dev/null; kill $pid; wait $pid)

    process =
      Port.open({:spawn_executable, System.find_executable("sh")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        args: ["-c", script, "sh" | options ++ arguments]
      ])

    server = %__MODULE__{port: port, folder: folder, process: process}
    Wait.until(fn -> answers?(server) end)
    server
  end

  @doc "The server's program: `redis-server`, or what the environment names."
  @spec program() :: String.t()
  def program, do: System.get_env("REDIS_SERVER", "redis-server")

  @doc "The server's URL."
  @spec url(t()) :: String.t()
  def url(%__MODULE__{port: port}), do: "redis://127.0.0.1:#{port}"

  @doc "Stops the server."
  @spec stop(t()) :: :ok
  def stop(%__MODULE__{} = server) do
    if Port.info(server.process), do: Port.close(server.process)
    Wait.until(fn -> not answers?(server) end)
    File.rm_rf!(server.folder)
    :ok
  end

  @doc "A port of the loopback address that nobody listens on."
  @spec free_port() :: :inet.port_number()
  def free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :ok = :gen_tcp.close(socket)
    port
  end

  defp answers?(server) do
    case RedisClient.connect(server.port) do
      {:ok, client} ->
        answer = RedisClient.command(client, ["PING"])
        RedisClient.close(client)
        match?({:ok, "PONG"}, answer)

      {:error, _reason} ->
        false
    end
  end
end
