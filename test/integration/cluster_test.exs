defmodule PowRedisCache.ClusterTest do
  use ExUnit.Case, async: false

  @moduletag :integration

  import PowRedisCache.Case, only: [seal: 0, unique_name: 0, ets_all: 3]

  alias PowRedisCache.{
    Certificates,
    Cluster,
    PowGuideStore,
    ConsistencyChecker,
    Ports,
    RedisClient,
    RedisServer
  }

  alias PowRedisCache.{Terms, Wait}

  @password "cluster-pw"
  @timeout 5_000

  # Shared by the tests that kill no server.
  setup_all do
    cluster = Cluster.start!(password: @password)
    on_exit(fn -> Cluster.stop(cluster) end)
    [cluster: cluster]
  end

  describe "on a cluster" do
    setup %{cluster: cluster} do
      [config: start(cluster)]
    end

    test "puts, gets, lists and deletes records", %{config: config} do
      assert PowRedisCache.put(config, [{["a", 1], 1}, {["a", 2], 2}, {["b", 1], 3}]) == :ok
      assert PowRedisCache.get(config, ["a", 1]) == 1
      assert PowRedisCache.get(config, ["a", 3]) == :not_found
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", 1], 1}, {["a", 2], 2}]
      assert PowRedisCache.all(config, [:_, 1]) == [{["a", 1], 1}, {["b", 1], 3}]
      assert PowRedisCache.delete(config, ["a", 1]) == :ok
      assert PowRedisCache.delete(config, ["a", 1]) == :ok
      assert PowRedisCache.get(config, ["a", 1]) == :not_found
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", 2], 2}]
    end

    test "spreads records over all primaries", %{config: config, cluster: cluster} do
      records = for i <- 1..2_000, do: {["many", i], %{number: i}}
      assert PowRedisCache.put(config, records) == :ok
      assert PowRedisCache.all(config, ["many", :_]) == records

      for {key, value} <- Enum.take_random(records, 100),
          do: ^value = PowRedisCache.get(config, key)

      sizes = Cluster.with_primaries(cluster, &RedisClient.command!(&1, ["DBSIZE"]))
      assert length(sizes) == 3
      assert Enum.all?(sizes, &(&1 > 300))

      for {key, _value} <- Enum.take(records, 50), do: PowRedisCache.delete(config, key)
      assert PowRedisCache.all(config, ["many", :_]) == Enum.drop(records, 50)
    end

    test "matches random keys and patterns like :ets", %{config: config} do
      :rand.seed(:exsss, {ExUnit.configuration()[:seed], 3, 5})
      keys = for(_ <- 1..150, do: Terms.key()) |> Enum.uniq_by(&List.wrap/1)
      records = Enum.with_index(keys)
      assert PowRedisCache.put(config, records) == :ok

      for _ <- 1..200 do
        pattern = Terms.pattern(keys)

        try do
          ets_all(config[:namespace], records, pattern)
        rescue
          ArgumentError ->
            assert_raise ArgumentError, fn -> PowRedisCache.all(config, pattern) end
        else
          expected ->
            found = PowRedisCache.all(config, pattern)
            assert exact(found) == exact(expected), "match #{inspect(pattern)}"
        end
      end
    end

    test "expires records", %{config: config} do
      PowRedisCache.put(Keyword.put(config, :ttl, 50), {["a", "short"], 1})
      PowRedisCache.put(config, {["a", "long"], 2})
      Wait.until(fn -> PowRedisCache.get(config, ["a", "short"]) == :not_found end)
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "long"], 2}]
    end

    test "keeps the order of asynchronous writes", %{config: config} do
      async = Keyword.put(config, :writes, :async)

      for i <- 1..500 do
        PowRedisCache.put(async, {["k", rem(i, 7)], i})
        PowRedisCache.delete(async, ["k", rem(i, 7)])
      end

      PowRedisCache.put(config, {"last", 1})
      assert PowRedisCache.all(config, ["k", :_]) == []
    end

    test "stores the members of an index set on the node of its slot", %{
      config: config,
      cluster: cluster
    } do
      PowRedisCache.put(config, [{["a", :b, 1], 1}, {["a", :b, 2], 2}])
      pow_store = %PowGuideStore{version: 2}
      set = PowGuideStore.index_set(pow_store, [config[:namespace], "a", :b])
      assert Cluster.slot(cluster, set) in 0..16_383
      owner = Cluster.owner(cluster, Cluster.slot(cluster, set))
      members = RedisServer.command!(owner, ["ZRANGE", set, 0, -1])
      assert members == [PowGuideStore.path(pow_store, [1]), PowGuideStore.path(pow_store, [2])]
    end

    test "reports the topology, the version and the nodes", %{config: config, cluster: cluster} do
      PowRedisCache.ping(config[:name])
      assert %{connected: true, topology: :cluster} = info = PowRedisCache.info(config[:name])
      assert info.version =~ ~r/^(Redis|Valkey) \d/
      assert Enum.any?(cluster.nodes, &(info.server =~ "#{&1.port}"))
    end

    test "discovers the cluster through any node that replies, even a replica", %{
      cluster: cluster
    } do
      unused = "redis://127.0.0.1:#{Ports.free()}"
      primaries = Cluster.primaries(cluster)
      replica = Enum.find(cluster.nodes, &(&1 not in primaries))
      config = start(cluster, cluster: [unused, RedisServer.url(replica)])
      records = for i <- 1..100, do: {["a", i], i}
      assert PowRedisCache.put(config, records) == :ok
      assert PowRedisCache.all(config, ["a", :_]) == records
    end

    test "returns :unauthenticated for a wrong password", %{cluster: cluster} do
      config = start(cluster, password: "wrong")
      assert {:error, error} = PowRedisCache.ping(config[:name])
      assert %{reason: :unauthenticated, code: "WRONGPASS"} = error
    end
  end

  test "follows redirections on a cluster with TLS" do
    cluster = Cluster.start!(tls: true, password: @password)
    on_exit(fn -> Cluster.stop(cluster) end)
    trust = [cacertfile: Certificates.path(:ca)]
    config = start(cluster, [cluster: Cluster.secure_urls(cluster)] ++ trust)
    records = for i <- 1..500, do: {["a", i], i}
    assert PowRedisCache.put(config, records) == :ok
    assert PowRedisCache.all(config, ["a", :_]) == records

    # A key that is put while its slot migrates is redirected by ASK, and later by MOVED. An existing key
    # moves with its slot.
    for key <- [["b", 1], ["a", 1]] do
      slot =
        Cluster.slot(cluster, PowGuideStore.path(%PowGuideStore{}, [config[:namespace] | key]))

      source = Cluster.owner(cluster, slot)
      target = Enum.find(Cluster.primaries(cluster), &(&1.port != source.port))

      Cluster.move_slot(cluster, slot, target, fn ->
        assert PowRedisCache.put(config, {key, 1}) == :ok
        assert PowRedisCache.get(config, key) == 1
      end)
    end

    assert PowRedisCache.all(config, ["a", :_]) == records
    assert PowRedisCache.all(config, ["b", :_]) == [{["b", 1], 1}]
    assert %{"MOVED" => _, "ASK" => _} = redirections(cluster)

    # All nodes have the same name.
    named = [cluster: Cluster.secure_urls(cluster), server_name: "localhost"] ++ trust
    config = start(cluster, named)
    assert PowRedisCache.put(config, records) == :ok
    assert PowRedisCache.all(config, ["a", :_]) == records

    config = start(cluster, cluster: Cluster.secure_urls(cluster))
    error = catch_error(PowRedisCache.put(config, {"key", 1}))
    assert %PowRedisCache.Error{reason: :tls, code: "unknown_ca"} = error
  end

  describe "under load" do
    setup context do
      cluster = Cluster.start!(node_timeout: context[:node_timeout])
      on_exit(fn -> Cluster.stop(cluster) end)

      config =
        start(cluster, cluster: Cluster.app_urls(cluster), password: nil, timeout: @timeout)

      Wait.until(fn -> PowRedisCache.ping(config[:name]) == :ok end)
      [cluster: cluster, config: config, checker: start_checker(config)]
    end

    test "moving slots loses no write and brings back no deleted record", %{
      cluster: cluster,
      config: config,
      checker: checker
    } do
      # Some of the keys and index sets that the checker writes.
      pow_store = %PowGuideStore{version: 2}

      paths =
        for number <- 1..4 do
          own = [config[:namespace], "process#{number}"]

          [
            PowGuideStore.index_set(pow_store, own),
            PowGuideStore.path(pow_store, own ++ [1]),
            PowGuideStore.path(pow_store, own ++ [2])
          ]
        end

      slots = paths |> Enum.concat() |> Enum.map(&Cluster.slot(cluster, &1)) |> Enum.uniq()

      for slot <- slots do
        source = Cluster.owner(cluster, slot)
        target = Enum.find(Cluster.primaries(cluster), &(&1.port != source.port))
        Cluster.move_slot(cluster, slot, target, fn -> ConsistencyChecker.await(checker, 100) end)
      end

      redirected = redirections(cluster)
      ConsistencyChecker.await(checker, 500)
      report = ConsistencyChecker.stop(checker)

      report =
        checker
        |> ConsistencyChecker.verify(report)
        |> ConsistencyChecker.print("cluster, #{length(slots)} slots moved")

      assert report.errors == %{}
      assert {report.lost, report.stale, report.mismatched} == {0, 0, 0}
      assert {report.late, report.leftover} == {0, 0}
      assert %{"MOVED" => moved, "ASK" => ask} = redirected
      assert moved > 0 and ask > 0
    end

    @tag :long
    @tag node_timeout: 1_000
    test "calls go on after a primary is killed", %{cluster: cluster, checker: checker} do
      [primary | _] = Cluster.primaries(cluster)
      RedisServer.kill(primary)

      {took, _} =
        :timer.tc(fn ->
          Wait.until(fn -> length(Cluster.primaries(cluster)) == 3 end)
          # On a busy machine, another primary might be replaced as well.
          Cluster.raise_node_timeout(cluster)
          Cluster.await_ok(cluster)
        end)

      ConsistencyChecker.await(checker, 1_000)

      # Acknowledged writes that were not replicated yet are lost with the primary, so lost and stale are
      # not checked.
      report =
        checker
        |> ConsistencyChecker.stop()
        |> ConsistencyChecker.print("cluster, primary killed")

      assert ConsistencyChecker.only_delayed?(report, took, 3_000)
      assert {report.late, report.leftover} == {0, 0}

      # It comes back as a replica.
      checker = start_checker(Keyword.put(checker.config, :namespace, "second"))
      primary = RedisServer.start_again!(primary)
      on_exit(fn -> RedisServer.stop(primary) end)

      Wait.until(fn ->
        RedisServer.info(primary, "replication", "master_link_status") == "up"
      end)

      ConsistencyChecker.await(checker, 1_000)
      report = ConsistencyChecker.stop(checker)

      report =
        checker
        |> ConsistencyChecker.verify(report)
        |> ConsistencyChecker.print("cluster, old primary back")

      assert report.errors == %{}
      assert {report.lost, report.stale, report.mismatched} == {0, 0, 0}
    end
  end

  # Keys that are equal but not identical, such as 1 and 1.0, have no defined order.
  defp exact(records), do: records |> Enum.map(&:erlang.term_to_binary/1) |> Enum.sort()

  # The number of redirections of all nodes, by kind.
  defp redirections(cluster) do
    cluster
    |> Cluster.with_primaries(fn client ->
      for line <- client |> RedisClient.command!(["INFO", "errorstats"]) |> String.split("\r\n"),
          [_, name, count] <- [Regex.run(~r/^errorstat_([A-Z]+):count=(\d+)/, line)],
          into: %{},
          do: {name, String.to_integer(count)}
    end)
    |> Enum.reduce(&Map.merge(&1, &2, fn _name, a, b -> a + b end))
  end

  defp start_checker(config) do
    config
    |> ConsistencyChecker.start(timeout: @timeout, processes: 20)
    |> ConsistencyChecker.await(500)
  end

  defp start(cluster, options \\ []) do
    name = unique_name()

    options =
      Keyword.merge(
        [
          name: name,
          cluster: Cluster.urls(cluster),
          password: cluster.password,
          index: true,
          seal: seal()
        ],
        options
      )

    start_supervised!({PowRedisCache, options}, id: name)
    namespace = "cluster#{System.unique_integer([:positive])}"
    [name: name, namespace: namespace, ttl: :timer.hours(1)]
  end
end
