defmodule PowRedisCache.Cluster do
  @moduledoc """
  A Redis Cluster of three primaries and three replicas. It ends with the process that started it, even
  if that is killed.
  """

  alias PowRedisCache.{Certificates, Ports, RedisClient, RedisServer, Wait}

  defstruct [:nodes, :password, secure_ports: []]

  @slots 16_384
  # In milliseconds: no failover on a busy machine, unless a test asks for one.
  @node_timeout 60_000

  @arguments [
    "--cluster-enabled",
    "yes",
    "--cluster-replica-validity-factor",
    "0",
    "--repl-diskless-sync",
    "yes",
    "--repl-diskless-sync-delay",
    "0"
  ]

  @doc """
  Starts a cluster and waits until it is healthy. Options:

    * `:password`;
    * `:tls` - also listen for TLS, on the ports of `secure_urls/1`;
    * `:node_timeout` - Redis's `cluster-node-timeout`, in milliseconds; short in tests of a failover.
  """
  def start!(options \\ []) do
    password = options[:password]
    login = if password, do: ["--requirepass", password, "--masterauth", password], else: []

    # The cluster bus uses a port 10,000 higher.
    ports = for _ <- 1..6, do: Ports.free([10_000])

    secure_ports = if options[:tls], do: for(_ <- 1..6, do: Ports.free([10_000])), else: []

    timeout = ["--cluster-node-timeout", "#{options[:node_timeout] || @node_timeout}"]

    nodes =
      for {port, position} <- Enum.with_index(ports) do
        tls = secure_ports |> Enum.at(position) |> tls_arguments()
        RedisServer.start!(@arguments ++ timeout ++ login ++ tls, port: port, password: password)
      end

    cluster = %__MODULE__{nodes: nodes, password: password, secure_ports: secure_ports}
    create(cluster)
    Wait.until(fn -> healthy?(cluster) end)
    cluster
  end

  @doc "Stops all servers. Any process may call it."
  def stop(cluster), do: Enum.each(cluster.nodes, &RedisServer.stop/1)

  def urls(cluster), do: Enum.map(cluster.nodes, &RedisServer.url/1)

  @doc "The URLs with the login of `RedisServer.app_url/1`."
  def app_urls(cluster), do: Enum.map(cluster.nodes, &RedisServer.app_url/1)

  def secure_urls(cluster),
    do: for(port <- cluster.secure_ports, do: "rediss://127.0.0.1:#{port}")

  @doc "The primaries that are alive."
  def primaries(cluster) do
    for node <- cluster.nodes, RedisServer.info(node, "replication", "role") == "master", do: node
  end

  @doc "The replica of a primary. Waits until the primary sends it what is written."
  def replica(cluster, primary) do
    ["master", _offset, [[_host, port, _applied]]] =
      Wait.until(fn ->
        with {:ok, ["master", _offset, [_replica]] = role} <-
               RedisServer.command(primary, ["ROLE"]),
             do: role,
             else: (_ -> nil)
      end)

    Enum.find(cluster.nodes, &("#{&1.port}" == port))
  end

  @doc "The slot of a Redis key."
  def slot(cluster, key), do: command!(cluster, ["CLUSTER", "KEYSLOT", key])

  @doc "The primary of a slot, according to the first server that replies."
  def owner(cluster, slot) do
    [[_from, _to, [_host, port | _] | _replicas]] =
      for [from, to | _] = range <- command!(cluster, ["CLUSTER", "SLOTS"]),
          slot in from..to,
          do: range

    Enum.find(cluster.nodes, &(&1.port == port))
  end

  @doc """
  Moves a slot with its keys to another primary. Calls `meanwhile` between the steps, while the slot is
  migrating and Redis redirects with `ASK`.
  """
  def move_slot(cluster, slot, target, meanwhile \\ fn -> :ok end) do
    source = owner(cluster, slot)
    [source_id, target_id] = for node <- [source, target], do: id(node)
    setslot = ["CLUSTER", "SETSLOT", slot]
    "OK" = RedisServer.command!(target, setslot ++ ["IMPORTING", source_id])
    "OK" = RedisServer.command!(source, setslot ++ ["MIGRATING", target_id])
    meanwhile.()
    move_keys(cluster, slot, source, target)
    meanwhile.()

    for node <- [target, source],
        do: "OK" = RedisServer.command!(node, setslot ++ ["NODE", target_id])

    Wait.until(fn ->
      Enum.all?(cluster.nodes, fn node ->
        node |> RedisServer.command(["CLUSTER", "SLOTS"]) |> sees_owner?(slot, target)
      end)
    end)

    :ok
  end

  @doc "Raises the node timeout, so that no further failover happens."
  def raise_node_timeout(cluster) do
    # Servers that are down return an error.
    for node <- cluster.nodes,
        do: RedisServer.command(node, ["CONFIG", "SET", "cluster-node-timeout", @node_timeout])
  end

  @doc "Waits until all servers that are alive report `cluster_state:ok`."
  def await_ok(cluster) do
    Wait.until(fn ->
      cluster.nodes
      |> Enum.map(&RedisServer.info_of(&1, ["CLUSTER", "INFO"], "cluster_state"))
      |> Enum.reject(&is_nil/1)
      |> Enum.all?(&(&1 == "ok"))
    end)
  end

  @doc "Replaces the server on the same port by its restarted one."
  def replace(cluster, node) do
    nodes = for old <- cluster.nodes, do: if(old.port == node.port, do: node, else: old)
    %{cluster | nodes: nodes}
  end

  @doc "Calls a function with a client of each primary."
  def with_primaries(cluster, function) do
    for node <- primaries(cluster) do
      client = RedisClient.connect!(node.port)
      if cluster.password, do: RedisClient.command!(client, ["AUTH", cluster.password])

      try do
        function.(client)
      after
        RedisClient.close(client)
      end
    end
  end

  @doc "Sends a command to the first server that replies."
  def command!(cluster, command) do
    Enum.find_value(cluster.nodes, fn node ->
      with {:ok, reply} <- RedisServer.command(node, command), do: reply, else: (_ -> nil)
    end)
  end

  defp tls_arguments(nil), do: []

  defp tls_arguments(port) do
    Certificates.server_arguments(port) ++ ["--tls-cluster", "yes", "--tls-replication", "yes"]
  end

  defp create(cluster) do
    login = if cluster.password, do: ["-a", cluster.password, "--no-auth-warning"], else: []

    tls =
      if cluster.secure_ports == [],
        do: [],
        else: ["--tls", "--cacert", Certificates.path(:ca)]

    addresses = for node <- cluster.nodes, do: "127.0.0.1:#{cluster_port(cluster, node)}"

    {output, status} =
      System.cmd(
        "redis-cli",
        login ++
          tls ++
          ["--cluster", "create"] ++ addresses ++ ["--cluster-replicas", "1", "--cluster-yes"],
        stderr_to_stdout: true
      )

    if status != 0, do: raise("creating the cluster failed: #{output}")
  end

  defp healthy?(cluster) do
    Enum.all?(cluster.nodes, fn node ->
      RedisServer.info_of(node, ["CLUSTER", "INFO"], "cluster_state") == "ok" and
        RedisServer.info_of(node, ["CLUSTER", "INFO"], "cluster_slots_ok") == "#{@slots}" and
        RedisServer.info_of(node, ["CLUSTER", "INFO"], "cluster_known_nodes") == "6" and
        knows_replicas?(node) and
        (RedisServer.info(node, "replication", "connected_slaves") == "1" or
           RedisServer.info(node, "replication", "master_link_status") == "up")
    end)
  end

  # A new replica is a primary without slots to nodes that have not heard of it.
  defp knows_replicas?(node) do
    case RedisServer.command(node, ["CLUSTER", "NODES"]) do
      {:ok, nodes} -> nodes |> String.split("\n") |> Enum.count(&(&1 =~ "slave")) == 3
      {:error, _reason} -> false
    end
  end

  defp sees_owner?({:ok, ranges}, slot, owner) do
    Enum.any?(ranges, fn [from, to, [_host, port | _] | _] ->
      slot in from..to and port == owner.port
    end)
  end

  # A server that is down does not count.
  defp sees_owner?({:error, _reason}, _slot, _owner), do: true

  defp move_keys(cluster, slot, source, target) do
    case RedisServer.command!(source, ["CLUSTER", "GETKEYSINSLOT", slot, 100]) do
      [] ->
        :ok

      keys ->
        login = if cluster.password, do: ["AUTH", cluster.password], else: []
        port = cluster_port(cluster, target)
        migrate = ["MIGRATE", "127.0.0.1", port, "", 0, 5_000 | login] ++ ["KEYS" | keys]
        RedisServer.command!(source, migrate)
        move_keys(cluster, slot, source, target)
    end
  end

  # The port that other nodes connect to: the TLS port if there is one.
  defp cluster_port(cluster, node) do
    position = Enum.find_index(cluster.nodes, &(&1.port == node.port))
    Enum.at(cluster.secure_ports, position) || node.port
  end

  defp id(node), do: RedisServer.command!(node, ["CLUSTER", "MYID"])
end
