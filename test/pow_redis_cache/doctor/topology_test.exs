defmodule PowRedisCache.Doctor.TopologyTest do
  # The doctor on Sentinel and Cluster.
  use ExUnit.Case, async: false

  import PowRedisCache.Diagnosis

  alias PowRedisCache.{
    Certificates,
    Cluster,
    Commands,
    Doctor,
    Ports,
    RedisClient,
    RedisServer,
    Sentinels,
    Wait
  }

  import PowRedisCache.Case, only: [unique_name: 0]

  setup_all do
    sentinels = Sentinels.start!(password: "redis-pw")
    on_exit(fn -> Sentinels.stop(sentinels) end)
    cluster = Cluster.start!(tls: true)
    on_exit(fn -> Cluster.stop(cluster) end)
    [sentinels: sentinels, cluster: cluster]
  end

  describe "with Sentinel, the doctor" do
    test "checks the primary", %{sentinels: sentinels} do
      checks = Doctor.check(options(sentinels))
      assert not_ok(checks) == []
      address = "127.0.0.1:#{Sentinels.primary(sentinels).port}"

      assert detail(checks, "endpoint") == "#{address}, the primary of mymaster"

      assert detail(checks, "role") == "primary"
    end

    test "checks the near cache at the primary", %{sentinels: sentinels} do
      checks = Doctor.check(options(sentinels) ++ [near_cache: true])
      assert not_ok(checks) == []
      assert detail(checks, "near cache") =~ "Redis reports a change after "
    end

    test "fails at the endpoint if the group is unknown or no sentinel is running", %{
      sentinels: sentinels
    } do
      checks = Doctor.check(options(sentinels, group: "other"))
      assert [{"endpoint", :error} | skipped] = not_ok(checks)
      assert Enum.all?(skipped, &match?({_name, :skipped}, &1))
      assert detail(checks, "endpoint") =~ "no sentinel reports the address of the primary"
      assert detail(checks, "endpoint") =~ "reports no primary for the group"

      unreachable = "127.0.0.1:#{Ports.free()}"
      checks = Doctor.check(options(sentinels, sentinels: ["redis://" <> unreachable]))
      assert [{"endpoint", :error} | _] = not_ok(checks)
      assert detail(checks, "endpoint") =~ "; #{unreachable} refused the connection"
    end

    test "names the sentinels that do not answer", %{sentinels: sentinels} do
      unreachable = for _ <- 1..2, do: "127.0.0.1:#{Ports.free()}"
      urls = Sentinels.urls(sentinels) ++ Enum.map(unreachable, &("redis://" <> &1))
      checks = Doctor.check(options(sentinels, sentinels: urls))
      assert not_ok(checks) == [{"endpoint", :warning}]

      assert detail(checks, "endpoint") =~
               ~r/, the primary of mymaster#{for address <- unreachable, do: "; #{address} refused the connection"}$/

      assert check(checks, "endpoint").advice ==
               "Start these sentinels, or remove them from :sentinels."
    end

    test "requires the permission to run ROLE", %{sentinels: sentinels} do
      primary = Sentinels.primary(sentinels)

      RedisServer.command!(primary, [
        "ACL",
        "SETUSER",
        "ann",
        "reset",
        "on",
        ">pw",
        "~*",
        "+@all",
        "-role"
      ])

      options = Keyword.merge(options(sentinels), username: "ann", password: "pw")
      checks = Doctor.check(options)
      assert not_ok(checks) == [{"permissions", :error}]
      [_, line] = Regex.run(~r/`(ACL SETUSER ann .*)`/, check(checks, "permissions").advice)
      RedisServer.command!(primary, String.split(line, " "))
      assert not_ok(Doctor.check(options)) == []
      # With the permission, an instance finds the primary too.
      name = unique_name()
      start_supervised!({PowRedisCache, [name: name] ++ options})
      Wait.until(fn -> PowRedisCache.ping(name) == :ok end)
    end
  end

  describe "with a cluster, the doctor" do
    test "checks one node and counts its keys", %{cluster: cluster} do
      name = unique_name()
      start_supervised!({PowRedisCache, name: name, cluster: Cluster.urls(cluster)})
      config = [name: name, namespace: "n", ttl: 60_000]
      PowRedisCache.put(config, for(i <- 1..100, do: {["a", i], i}))
      checks = Doctor.check(name: name)
      assert not_ok(checks) == []

      assert detail(checks, "endpoint") ==
               "127.0.0.1:#{hd(cluster.nodes).port}, one node of a cluster with 3 primaries: " <>
                 "later checks are about this node"

      [_, indexed] = Regex.run(~r/^"n" (\d+); /, detail(checks, "keys"))
      assert String.to_integer(indexed) in 10..60
    end

    test "checks over TLS, through a replica, and despite an unreachable node", %{
      cluster: cluster
    } do
      primaries = for node <- Cluster.primaries(cluster), do: node.port
      replica = Enum.find(cluster.nodes, &(&1.port not in primaries))
      unreachable = "127.0.0.1:#{Ports.free()}"
      checks = Doctor.check(cluster: ["redis://" <> unreachable, RedisServer.url(replica)])
      assert not_ok(checks) == [{"endpoint", :warning}]
      assert detail(checks, "endpoint") =~ "cannot connect to #{unreachable}"
      assert detail(checks, "role") == "replica; calls go to the primaries"

      secure = [cluster: Cluster.secure_urls(cluster), cacertfile: Certificates.path(:ca)]
      # The certificates of the tests are valid for ten days.
      assert not_ok(Doctor.check(secure)) == [{"TLS", :warning}]
    end

    test "checks the near cache at the node of its key, and deletes that", %{cluster: cluster} do
      for urls <- [Cluster.urls(cluster), Cluster.secure_urls(cluster)] do
        options = [cluster: urls, cacertfile: Certificates.path(:ca), near_cache: true]
        checks = Doctor.check(options)
        assert check(checks, "near cache").status == :ok, inspect(checks)
        assert detail(checks, "near cache") =~ "Redis reports a change after "
      end

      [namespace, _random] = String.split(Commands.unused_key(), ":")

      for node <- cluster.nodes do
        client = RedisClient.connect!(node.port)
        assert RedisClient.command!(client, ["KEYS", namespace <> ":*"]) == []
        RedisClient.close(client)
      end
    end

    test "fails if the cluster names addresses that cannot be reached", %{cluster: cluster} do
      # Without an announced host name, the nodes are called "?".
      preferred = fn type ->
        for node <- cluster.nodes,
            do:
              RedisServer.command!(node, [
                "CONFIG",
                "SET",
                "cluster-preferred-endpoint-type",
                type
              ])
      end

      preferred.("hostname")
      checks = Doctor.check(cluster: Cluster.urls(cluster))
      preferred.("ip")
      assert {"endpoint", :error} in not_ok(checks)
      assert detail(checks, "endpoint") =~ ~r/; The host name of \?:\d+ has no address/
      assert check(checks, "endpoint").advice =~ "`cluster-announce-hostname`"
    end

    test "reports :url for a cluster, and :cluster for a standalone server", %{cluster: cluster} do
      checks = Doctor.check(url: hd(Cluster.urls(cluster)))
      assert {"server", :error} in not_ok(checks)
      assert check(checks, "server").advice == "Use :cluster instead of :url."

      server = :persistent_term.get(RedisServer)

      unless System.get_env("REDIS_TOPOLOGY") == "cluster" do
        checks = Doctor.check(cluster: [RedisServer.url(server)])
        assert {"server", :error} in not_ok(checks)
        assert check(checks, "server").advice == "Use :url instead of :cluster."
      end
    end

    test "requires the permissions to run CLUSTER SLOTS and CLUSTER NODES", %{cluster: cluster} do
      for node <- cluster.nodes do
        client = RedisClient.connect!(node.port)

        rules = [
          "reset",
          "on",
          ">pw",
          "~*",
          "+@all",
          "-cluster|slots",
          "-cluster|nodes",
          "-asking"
        ]

        "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann" | rules])
        RedisClient.close(client)
      end

      options = [cluster: Cluster.urls(cluster), username: "ann", password: "pw"]
      checks = Doctor.check(options)
      assert {"permissions", :error} in not_ok(checks)
      [_, line] = Regex.run(~r/`(ACL SETUSER ann .*)`/, check(checks, "permissions").advice)
      assert line =~ "+cluster|slots +cluster|nodes +asking"
      for node <- cluster.nodes, do: RedisServer.command!(node, String.split(line, " "))
      assert not_ok(Doctor.check(options)) == []
    end
  end

  defp options(sentinels, options \\ []) do
    sentinel =
      Keyword.merge([sentinels: Sentinels.urls(sentinels), group: sentinels.group], options)

    [sentinel: sentinel, password: "redis-pw"]
  end

  defp not_ok(checks),
    do: for(check <- checks, check.status != :ok, do: {check.name, check.status})
end
