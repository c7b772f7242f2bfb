defmodule PowRedisCache.Sentinels do
  @moduledoc """
  A master, two replicas, and three sentinels that watch them. They end with the process that started
  them, however that ends.
  """

  alias PowRedisCache.{Certificates, Ports, Processes, RedisClient, RedisServer, Wait}

  defstruct [:nodes, :sentinels, :group, :options]

  # In milliseconds.
  @patience 60_000

  # Replicas follow at once, instead of after the seconds in which others may join.
  @arguments ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]

  @doc """
  Starts all of them and waits until a failover would work. Options: `:group`, `"mymaster"` by
  default; `:password`, of the Redis servers; `:sentinel_password`; `:down_after`, how many
  milliseconds of silence cost a master its place, for tests in which one is to lose it.
  """
  def start!(options \\ []) do
    group = options[:group] || "mymaster"
    password = options[:password]

    login = if password, do: ["--requirepass", password, "--masterauth", password], else: []

    master = RedisServer.start!(@arguments ++ login, password: password)
    follow = ["--replicaof", "127.0.0.1 #{master.port}"]

    replicas =
      for _ <- 1..2, do: RedisServer.start!(@arguments ++ login ++ follow, password: password)

    Wait.until(fn -> Enum.all?(replicas, &follows?/1) end)
    setup = %__MODULE__{nodes: [master | replicas], group: group, options: options, sentinels: []}
    setup = %{setup | sentinels: for(_ <- 1..3, do: start_sentinel!(setup, master))}
    Wait.until(fn -> Enum.all?(setup.sentinels, &ready?(setup, &1)) end)
    setup
  end

  @doc "Stops all; may be called from any process."
  def stop(setup) do
    for sentinel <- setup.sentinels do
      Processes.stop(sentinel.process)
      File.rm_rf!(sentinel.folder)
    end

    Enum.each(setup.nodes, &RedisServer.stop/1)
  end

  def urls(setup), do: for(sentinel <- setup.sentinels, do: "redis://127.0.0.1:#{sentinel.port}")

  @doc "The sentinels speak TLS too."
  def secure_urls(setup) do
    for sentinel <- setup.sentinels, do: "rediss://127.0.0.1:#{sentinel.secure_port}"
  end

  @doc "The server that the sentinels take for the master; `nil` while they disagree."
  def master(setup) do
    ports =
      for sentinel <- setup.sentinels, Processes.alive?(sentinel.process), uniq: true do
        command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", setup.group]
        with {:ok, [_host, port]} <- ask(setup, sentinel, command), do: String.to_integer(port)
      end

    with [port] <- ports, do: Enum.find(setup.nodes, &(&1.port == port)), else: (_ -> nil)
  end

  def replicas(setup) do
    master = master(setup)
    for node <- setup.nodes, node.port != master.port, do: node
  end

  @doc "Waits until there is another master than this one, which takes writes; that one."
  def await_other_master(setup, old) do
    Wait.until(fn ->
      new = master(setup)

      if new && new.port != old.port && RedisServer.info(new, "replication", "role") == "master",
        do: new
    end)
  end

  @doc "From now on a silent master keeps its place for a minute."
  def be_patient(setup) do
    for sentinel <- setup.sentinels do
      command = ["SENTINEL", "SET", setup.group, "down-after-milliseconds", @patience]
      {:ok, "OK"} = ask(setup, sentinel, command)
    end
  end

  @doc "Puts a server that was started again in the place of the one on the same port."
  def replace(setup, node) do
    nodes = for old <- setup.nodes, do: if(old.port == node.port, do: node, else: old)
    %{setup | nodes: nodes}
  end

  @doc "Sends a command to one sentinel."
  def ask(setup, sentinel, command) do
    with {:ok, client} <- RedisClient.connect(sentinel.port) do
      try do
        if password = setup.options[:sentinel_password] do
          RedisClient.command!(client, ["AUTH", password])
        end

        RedisClient.command(client, command)
      after
        RedisClient.close(client)
      end
    end
  end

  @doc "Whether a replica is up to date with its master."
  def follows?(node), do: RedisServer.info(node, "replication", "master_link_status") == "up"

  defp start_sentinel!(setup, master) do
    [port, secure_port] = for _ <- 1..2, do: Ports.free()
    unique = System.unique_integer([:positive])
    folder = Path.join(System.tmp_dir!(), "pow_redis_cache_sentinel_#{port}_#{unique}")
    File.mkdir_p!(folder)
    file = Path.join(folder, "sentinel.conf")
    %{group: group, options: options} = setup

    logins =
      [
        if(options[:password], do: "sentinel auth-pass #{group} #{options[:password]}"),
        if(options[:sentinel_password], do: "requirepass #{options[:sentinel_password]}")
      ]
      |> Enum.reject(&is_nil/1)
      |> Enum.join("\n")

    File.write!(file, """
    port #{port}
    tls-port #{secure_port}
    tls-cert-file #{Certificates.path(:server)}
    tls-key-file #{Certificates.key(:server)}
    tls-ca-cert-file #{Certificates.path(:ca)}
    tls-auth-clients no
    bind 127.0.0.1
    dir #{folder}
    sentinel monitor #{group} 127.0.0.1 #{master.port} 2
    sentinel down-after-milliseconds #{group} #{options[:down_after] || @patience}
    sentinel failover-timeout #{group} 10000
    sentinel parallel-syncs #{group} 2
    #{logins}
    """)

    output = Path.join(folder, "output")
    process = Processes.start!(RedisServer.program(), [file, "--sentinel"], output)
    %{port: port, secure_port: secure_port, folder: folder, process: process}
  end

  defp ready?(setup, sentinel) do
    with {:ok, master} <- ask(setup, sentinel, ["SENTINEL", "MASTER", setup.group]),
         %{"flags" => "master", "num-slaves" => "2", "num-other-sentinels" => "2"} <-
           fields(master),
         {:ok, replicas} <- ask(setup, sentinel, ["SENTINEL", "REPLICAS", setup.group]),
         {:ok, "OK" <> _} <- ask(setup, sentinel, ["SENTINEL", "CKQUORUM", setup.group]) do
      Enum.all?(
        replicas,
        &match?(%{"flags" => "slave", "master-link-status" => "ok"}, fields(&1))
      )
    else
      _ -> false
    end
  end

  defp fields(list),
    do: for([key, value] <- Enum.chunk_every(list, 2), into: %{}, do: {key, value})
end
