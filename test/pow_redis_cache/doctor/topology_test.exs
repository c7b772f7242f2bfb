defmodule PowRedisCache.Doctor.TopologyTest do
  # What the doctor says of Sentinel and Cluster.
  use ExUnit.Case, async: false

  import PowRedisCache.Diagnosis

  alias PowRedisCache.{
    Certificates,
    Cluster,
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

  describe "Sentinel" do
    test "its master is examined", %{sentinels: sentinels} do
      checks = Doctor.check(options(sentinels))
      assert not_ok(checks) == []
      address = "127.0.0.1:#{Sentinels.primary(sentinels).port}"

      assert detail(checks, "location") ==
               "#{address}, which the sentinels call the master of mymaster"

      assert detail(checks, "role") == "master"
    end

    test "that knows no such group, or is not there", %{sentinels: sentinels} do
      checks = Doctor.check(options(sentinels, group: "other"))
      assert [{"location", :error} | skipped] = not_ok(checks)
      assert Enum.all?(skipped, &match?({_name, :skipped}, &1))
      assert detail(checks, "location") =~ "No sentinel could tell where the master is"

      nobody = "redis://127.0.0.1:#{Ports.free()}"
      checks = Doctor.check(options(sentinels, sentinels: [nobody]))
      assert [{"location", :error} | _] = not_ok(checks)
    end

    test "a user of the master needs to ask for its role too", %{sentinels: sentinels} do
      master = Sentinels.primary(sentinels)

      RedisServer.command!(master, [
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
      RedisServer.command!(master, String.split(line, " "))
      assert not_ok(Doctor.check(options)) == []
      # And so the sentinels' client finds it.
      name = unique_name()
      start_supervised!({PowRedisCache, [name: name] ++ options})
      Wait.until(fn -> PowRedisCache.ping(name) == :ok end)
    end
  end

  describe "a Cluster" do
    test "is examined through one node, with the keys that lie there", %{cluster: cluster} do
      name = unique_name()
      start_supervised!({PowRedisCache, name: name, cluster: Cluster.urls(cluster)})
      config = [name: name, namespace: "n", ttl: 60_000]
      PowRedisCache.put(config, for(i <- 1..100, do: {["a", i], i}))
      checks = Doctor.check(name: name)
      assert not_ok(checks) == []

      assert detail(checks, "location") ==
               "127.0.0.1:#{hd(cluster.nodes).port}, one node of a cluster of 3 masters: what follows is about this node"

      [_, indexed] = Regex.run(~r/^"n" (\d+) in the index and 0 not; /, detail(checks, "keys"))
      assert String.to_integer(indexed) in 10..60
    end

    test "over TLS, through a replica, past a node that is down", %{cluster: cluster} do
      masters = for node <- Cluster.primaries(cluster), do: node.port
      replica = Enum.find(cluster.nodes, &(&1.port not in masters))
      nobody = "127.0.0.1:#{Ports.free()}"
      checks = Doctor.check(cluster: ["redis://" <> nobody, RedisServer.url(replica)])
      assert not_ok(checks) == [{"location", :warning}]
      assert detail(checks, "location") =~ "#{nobody} did not let us in"
      assert detail(checks, "role") == "replica; calls go to the masters"

      secure = [cluster: Cluster.secure_urls(cluster), cacertfile: Certificates.path(:ca)]
      # The certificate of the tests lives for ten days.
      assert not_ok(Doctor.check(secure)) == [{"TLS", :warning}]
    end

    test "that is taken for a server, and a server that is taken for a Cluster", %{
      cluster: cluster
    } do
      checks = Doctor.check(url: hd(Cluster.urls(cluster)))
      assert {"server", :error} in not_ok(checks)
      assert check(checks, "server").advice == "Use :cluster in place of :url."

      server = :persistent_term.get(RedisServer)

      unless System.get_env("REDIS_TOPOLOGY") == "cluster" do
        checks = Doctor.check(cluster: [RedisServer.url(server)])
        assert {"server", :error} in not_ok(checks)
        assert check(checks, "server").advice == "Use :url in place of :cluster."
      end
    end

    test "a user needs to ask who has the slots too", %{cluster: cluster} do
      for node <- cluster.nodes do
        client = RedisClient.connect!(node.port)
        rules = ["reset", "on", ">pw", "~*", "+@all", "-cluster|slots", "-asking"]
        "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann" | rules])
        RedisClient.close(client)
      end

      options = [cluster: Cluster.urls(cluster), username: "ann", password: "pw"]
      checks = Doctor.check(options)
      assert {"permissions", :error} in not_ok(checks)
      [_, line] = Regex.run(~r/`(ACL SETUSER ann .*)`/, check(checks, "permissions").advice)
      assert line =~ "+cluster|slots +asking"
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
