defmodule PowRedisCache.ClusterScanTest do
  # Scans of all primaries of a cluster: by all/2 where no index set lists all matches, and by reindex.
  use ExUnit.Case, async: false

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]
  import ExUnit.CaptureLog

  alias PowRedisCache.{Cluster, PowGuideStore, RedisClient}

  @ttl 600_000

  setup_all do
    cluster = Cluster.start!()
    on_exit(fn -> Cluster.stop(cluster) end)
    [cluster: cluster]
  end

  setup %{cluster: cluster} do
    Cluster.with_primaries(cluster, &RedisClient.command!(&1, ["FLUSHALL"]))
    client = RedisClient.connect!(hd(cluster.nodes).port)
    on_exit(fn -> RedisClient.close(client) end)
    [legacy: %PowGuideStore{client: client, version: 2, otp: 25}]
  end

  for index <- [:sessions, false] do
    test "all/2 finds the keys of all primaries with index: #{index}", %{cluster: cluster} do
      config = start(cluster, index: unquote(index))
      records = for i <- 1..3_000, do: {["many", i], i}
      PowRedisCache.put(config, records)
      PowRedisCache.put(config, {["other", 1], 1})

      log = capture_log(fn -> assert PowRedisCache.all(config, ["many", :_]) == records end)
      assert log =~ "all/2 scans all keys for [:_, :_], which no pattern of :index covers"
      # Once for each kind of match.
      log = capture_log(fn -> assert PowRedisCache.all(config, ["other", :_]) != [] end)
      refute log =~ "scans all keys"

      PowRedisCache.delete(config, ["many", 1])
      assert PowRedisCache.all(config, ["many", :_]) == tl(records)
      assert PowRedisCache.all(config, [:_, 2]) == [{["many", 2], 2}]
      log = capture_log(fn -> assert PowRedisCache.all(config, :_) == [] end)
      assert log =~ "all/2 scans all keys for [:_]"
      assert log =~ "use PowRedisCache.PersistentSessionStore"
    end
  end

  test "all/2 misses no key and returns none twice while slots move", %{cluster: cluster} do
    config = start(cluster, index: false)
    records = for i <- 1..500, do: {["moving", i], i}
    PowRedisCache.put(config, records)
    test = self()

    lister =
      Task.async(fn ->
        fn -> PowRedisCache.all(config, ["moving", :_]) end
        |> Stream.repeatedly()
        |> Enum.reduce_while(0, fn found, calls ->
          assert found == records
          send(test, {:called, calls})
          if stop?(), do: {:halt, calls + 1}, else: {:cont, calls + 1}
        end)
      end)

    pow_store = %PowGuideStore{version: 1}

    for i <- 1..8 do
      slot =
        Cluster.slot(cluster, PowGuideStore.path(pow_store, [config[:namespace], "moving", i]))

      source = Cluster.owner(cluster, slot)

      for target <- Enum.reject(Cluster.primaries(cluster), &(&1.port == source.port)) do
        Cluster.move_slot(cluster, slot, target, fn -> await_call() end)
      end
    end

    send(lister.pid, :stop)
    assert Task.await(lister, 120_000) > 16
  end

  describe "reindex" do
    test "renames legacy keys across slots, with their remaining time", context do
      %{cluster: cluster, legacy: legacy} = context
      config = start(cluster, index: true)
      records = for i <- 1..1_000, do: {[:user, i], i}
      write(legacy, config, records)
      assert PowRedisCache.all(config, [:user, :_]) == records

      test = self()
      progress = &send(test, {:fraction, &1.fraction})
      numbers = PowRedisCache.reindex(name: config[:name], progress: progress)
      assert numbers == %{keys: numbers.keys, indexed: 1_000, renamed: 1_000, skipped: 0}
      # A page may be scanned again under the new names.
      assert numbers.keys in 1_000..2_000
      fractions = received()
      assert fractions == Enum.sort(fractions) and List.last(fractions) == 1.0

      assert PowRedisCache.all(config, [:user, :_]) == records
      again = PowRedisCache.reindex(name: config[:name])
      assert again == %{keys: 1_000, indexed: 0, renamed: 0, skipped: 0}

      for i <- [1, 500, 1_000] do
        parts = [config[:namespace], :user, i]

        assert RedisClient.command!(legacy.client, ["EXISTS", PowGuideStore.path(legacy, parts)]) ==
                 0

        path = PowGuideStore.path(%{legacy | otp: 26}, parts)
        left = RedisClient.command!(legacy.client, ["PTTL", path])
        assert left in (@ttl - 120_000)..@ttl
      end

      PowRedisCache.delete(config, [:user, 1])
      assert PowRedisCache.all(config, [:user, :_]) == tl(records)
    end

    test "completes a rename that was interrupted", %{cluster: cluster, legacy: legacy} do
      config = start(cluster, index: false)
      write(legacy, config, [{[:user, 1], 1}])
      path = PowGuideStore.path(%{legacy | otp: 26}, [config[:namespace], :user, 1])
      value = :erlang.term_to_binary(1)
      # The copy was made, but not confirmed.
      RedisClient.command!(legacy.client, ["SET", path, value, "PX", 9_000])

      assert %{renamed: 1} = PowRedisCache.reindex(name: config[:name])
      assert RedisClient.command!(legacy.client, ["PTTL", path]) > 100_000
      assert PowRedisCache.get(config, [:user, 1]) == 1
    end

    test "keeps a newer value", %{cluster: cluster, legacy: legacy} do
      config = start(cluster, index: false)
      write(legacy, config, [{[:user, 1], 1}])
      PowRedisCache.put(config, {[:user, 1], 2})
      assert %{renamed: 1} = PowRedisCache.reindex(name: config[:name])
      assert PowRedisCache.get(config, [:user, 1]) == 2
      assert PowRedisCache.all(config, [:user, :_]) == [{[:user, 1], 2}]
    end

    test "brings a database to another index", %{cluster: cluster} do
      every = start(cluster, index: true)
      sessions = start(cluster, index: :sessions)
      user = [MyApp.User, :user, 1]
      PowRedisCache.put(every, [{user ++ [:session, "a"], 1}, {user, 0}, {"a", 2}])

      dry = PowRedisCache.reindex(name: sessions[:name], prune: true, dry_run: true)
      assert dry == %{keys: 3, indexed: 0, renamed: 0, skipped: 0, pruned: 4}
      assert PowRedisCache.reindex(name: sessions[:name], prune: true) == dry
      assert %{pruned: 0} = PowRedisCache.reindex(name: sessions[:name], prune: true)
      assert PowRedisCache.all(sessions, user ++ [:session, :_]) == [{user ++ [:session, "a"], 1}]
      # What was pruned, another instance adds again.
      assert PowRedisCache.all(every, :_) == []
      assert %{indexed: 3} = PowRedisCache.reindex(name: every[:name])
      assert PowRedisCache.all(every, :_) == [{"a", 2}]
    end
  end

  defp start(cluster, options) do
    name = unique_name()
    instance = [name: name, cluster: Cluster.urls(cluster), timeout: 60_000]
    start_supervised!({PowRedisCache, Keyword.merge(instance, options)}, id: name)
    [name: name, namespace: "scan", ttl: @ttl]
  end

  # RedisClient follows redirections of single commands only.
  defp write(pow_store, config, records) do
    for {key, value} <- records,
        command <- PowGuideStore.put_commands(pow_store, [config[:namespace] | key], value, @ttl),
        do: RedisClient.command!(pow_store.client, command)
  end

  defp stop? do
    receive do
      :stop -> true
    after
      0 -> false
    end
  end

  # A listing that began after this has ended.
  defp await_call do
    flush()
    assert_receive {:called, _calls}, 60_000
    assert_receive {:called, _calls}, 60_000
  end

  defp flush do
    receive do
      {:called, _calls} -> flush()
    after
      0 -> :ok
    end
  end

  defp received do
    receive do
      {:fraction, fraction} -> [fraction | received()]
    after
      0 -> []
    end
  end
end
