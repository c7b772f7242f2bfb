defmodule PowRedisCache.Sentinels do
  @moduledoc """
  A primary, two replicas, and three sentinels that monitor them. They end with the process that started
  them, even if that is killed.
  """

  alias PowRedisCache.{Certificates, Ports, Processes, RedisClient, RedisServer, Wait}

  defstruct [:nodes, :sentinels, :group, :options]

  # In milliseconds: no failover on a busy machine, unless a test asks for one.
  @down_after 60_000

  # Replicas sync at once instead of waiting for further ones.
  @arguments ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]

  @doc """
  Starts all servers and waits until a failover would succeed. Options:

    * `:group` - `"mymaster"` by default;
    * `:password` - of the Redis servers;
    * `:sentinel_password`;
    * `:down_after` - Sentinel's `down-after-milliseconds`; short in tests of a failover.
  """
  def start!(options \\ []) do
    group = options[:group] || "mymaster"
    password = options[:password]

    login = if password, do: ["--requirepass", password, "--masterauth", password], else: []

    primary = RedisServer.start!(@arguments ++ login, password: password)
    follow = ["--replicaof", "127.0.0.1 #{primary.port}"]

    replicas =
      for _ <- 1..2, do: RedisServer.start!(@arguments ++ login ++ follow, password: password)

    Wait.until(fn -> Enum.all?(replicas, &replicating?/1) end)

    setup = %__MODULE__{
      nodes: [primary | replicas],
      group: group,
      options: options,
      sentinels: []
    }

    setup = %{setup | sentinels: for(_ <- 1..3, do: start_sentinel!(setup, primary))}
    Wait.until(fn -> Enum.all?(setup.sentinels, &ready?(setup, &1)) end)
    setup
  end

  @doc "Stops all servers. Any process may call it."
  def stop(setup) do
    for sentinel <- setup.sentinels do
      Processes.stop(sentinel.process)
      File.rm_rf!(sentinel.folder)
    end

    Enum.each(setup.nodes, &RedisServer.stop/1)
  end

  def urls(setup), do: for(sentinel <- setup.sentinels, do: "redis://127.0.0.1:#{sentinel.port}")

  @doc "The URLs of the sentinels' TLS ports."
  def secure_urls(setup) do
    for sentinel <- setup.sentinels, do: "rediss://127.0.0.1:#{sentinel.secure_port}"
  end

  @doc "The primary according to the sentinels, or `nil` while they disagree."
  def primary(setup) do
    with [port] <- named_ports(setup),
         do: Enum.find(setup.nodes, &(&1.port == port)),
         else: (_ -> nil)
  end

  def replicas(setup) do
    primary = primary(setup)
    for node <- setup.nodes, node.port != primary.port, do: node
  end

  @doc """
  Waits until another server is the primary and accepts writes, and returns it. As soon as one sentinel
  names another, `down-after-milliseconds` is raised: on a busy machine, the new primary might be replaced
  as well.
  """
  def await_new_primary(setup, old) do
    Wait.until(fn -> Enum.any?(named_ports(setup), &(is_integer(&1) and &1 != old.port)) end)
    raise_down_after(setup)

    Wait.until(fn ->
      new = primary(setup)

      if new && new.port != old.port && RedisServer.info(new, "replication", "role") == "master",
        do: new
    end)
  end

  @doc """
  Waits until no failover is under way and all servers but `down` replicate the primary. Until then, a
  further change may lose acknowledged writes.
  """
  def await_settled(setup, down) do
    Wait.until(fn ->
      primary = primary(setup)

      primary && Enum.all?(setup.sentinels, &idle?(setup, &1)) &&
        Enum.all?(
          setup.nodes,
          &(&1.port in [primary.port, down.port] or replicates?(&1, primary))
        )
    end)
  end

  # The ports that the sentinels name, or errors.
  defp named_ports(setup) do
    for sentinel <- setup.sentinels, Processes.alive?(sentinel.process), uniq: true do
      arguments = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", setup.group]

      with {:ok, [_host, port]} <- command(setup, sentinel, arguments),
           do: String.to_integer(port)
    end
  end

  defp idle?(setup, sentinel) do
    with {:ok, primary} <- command(setup, sentinel, ["SENTINEL", "MASTER", setup.group]),
         do: match?(%{"flags" => "master"}, fields(primary))
  end

  defp replicates?(node, primary) do
    replicating?(node) and
      RedisServer.info(node, "replication", "master_port") == "#{primary.port}"
  end

  defp raise_down_after(setup) do
    for sentinel <- setup.sentinels do
      arguments = ["SENTINEL", "SET", setup.group, "down-after-milliseconds", @down_after]
      {:ok, "OK"} = command(setup, sentinel, arguments)
    end
  end

  @doc "Replaces the server on the same port by its restarted one."
  def replace(setup, node) do
    nodes = for old <- setup.nodes, do: if(old.port == node.port, do: node, else: old)
    %{setup | nodes: nodes}
  end

  @doc "Sends a command to a sentinel."
  def command(setup, sentinel, arguments) do
    with {:ok, client} <- RedisClient.connect(sentinel.port) do
      try do
        # A sentinel that is just starting may close the connection.
        with {:ok, _reply} <- log_in(client, setup.options[:sentinel_password]),
             do: RedisClient.command(client, arguments)
      after
        RedisClient.close(client)
      end
    end
  end

  defp log_in(_client, nil), do: {:ok, nil}
  defp log_in(client, password), do: RedisClient.command(client, ["AUTH", password])

  @doc "Whether a replica is connected to its primary."
  def replicating?(node), do: RedisServer.info(node, "replication", "master_link_status") == "up"

  defp start_sentinel!(setup, primary) do
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
    sentinel monitor #{group} 127.0.0.1 #{primary.port} 2
    sentinel down-after-milliseconds #{group} #{options[:down_after] || @down_after}
    sentinel failover-timeout #{group} 10000
    sentinel parallel-syncs #{group} 2
    #{logins}
    """)

    output = Path.join(folder, "output")
    process = Processes.start!(RedisServer.program(), [file, "--sentinel"], output)
    %{port: port, secure_port: secure_port, folder: folder, process: process}
  end

  defp ready?(setup, sentinel) do
    with {:ok, primary} <- command(setup, sentinel, ["SENTINEL", "MASTER", setup.group]),
         %{"flags" => "master", "num-slaves" => "2", "num-other-sentinels" => "2"} <-
           fields(primary),
         {:ok, replicas} <- command(setup, sentinel, ["SENTINEL", "REPLICAS", setup.group]),
         {:ok, "OK" <> _} <- command(setup, sentinel, ["SENTINEL", "CKQUORUM", setup.group]) do
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
