defmodule PowRedisCache.NearReadsTest do
  # Reads of an instance with a near cache.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureLog

  @moduletag :integration

  # The namespace of the test is only known here.
  setup context do
    # A slow machine makes no difference.
    options = [namespaces: [context.namespace], max_staleness: 60_000]
    near = start_instance(context, near_cache: options)
    Wait.until(fn -> info(near).tracking end)
    [near: near]
  end

  describe "a read" do
    test "of what has not changed is answered from memory", %{near: near} do
      PowRedisCache.put(near, [{"key", 1}, {["user", 1], %{name: "Ann"}}])

      for {key, value} <- [{"key", 1}, {["user", 1], %{name: "Ann"}}] do
        keep(near, key)
        %{calls: calls, near_cache: %{hits: hits}} = PowRedisCache.info(near[:name])
        for _ <- 1..10, do: assert(PowRedisCache.get(near, key) == value)
        assert %{calls: ^calls, near_cache: after_hits} = PowRedisCache.info(near[:name])
        assert after_hits.hits == hits + 10
      end

      assert info(near).entries == 2
    end

    test "of a namespace that is not named goes to Redis", %{near: near} do
      other = Keyword.update!(near, :namespace, &(&1 <> "other"))
      PowRedisCache.put(other, {"key", 1})
      for _ <- 1..10, do: assert(PowRedisCache.get(other, "key") == 1)
      assert %{hits: 0, misses: 0, entries: 0} = info(near)
    end

    test "finds what the instance has written", %{near: near} do
      for i <- 1..200 do
        PowRedisCache.put(near, {"key", i})
        assert PowRedisCache.get(near, "key") == i
        assert PowRedisCache.get(near, "key") == i
        PowRedisCache.delete(near, "key")
        assert PowRedisCache.get(near, "key") == :not_found
        assert PowRedisCache.put_new(near, {"key", -i})
        assert PowRedisCache.get(near, "key") == -i
      end
    end

    test "finds what others have written", %{near: near, config: config} = context do
      PowRedisCache.put(near, {"key", 1})
      keep(near, "key")
      PowRedisCache.put(config, {"key", 2})
      Wait.until(fn -> PowRedisCache.get(near, "key") == 2 end)
      keep(near, "key")
      path = PowGuideStore.path(context.pow_store, [context.namespace, "key"])
      RedisClient.command!(context.client, ["DEL", path])
      Wait.until(fn -> PowRedisCache.get(near, "key") == :not_found end)
      assert info(near).invalidations >= 2
    end

    test "finds nothing after the TTL", %{near: near} do
      # Puts again if the record expires before it is kept.
      Wait.until(fn ->
        PowRedisCache.put(Keyword.put(near, :ttl, 300), {"key", 1})
        PowRedisCache.get(near, "key")
        hit? = hit?(near, "key")
        Process.sleep(301)
        assert PowRedisCache.get(near, "key") == :not_found
        hit?
      end)
    end

    test "of a missing key, an invalid value or a legacy key is not answered from memory",
         context do
      %{near: near, client: client, pow_store: pow_store, namespace: namespace} = context
      invalid = PowGuideStore.path(pow_store, [namespace, "invalid"])
      RedisClient.command!(client, ["SET", invalid, "no term"])

      for key <- ["missing", "invalid"],
          _ <- 1..3,
          do: assert(PowRedisCache.get(near, key) == :not_found)

      assert %{hits: 0, entries: 0, misses: 6} = info(near)
    end

    test "finds all that is written while many processes read and write", %{near: near} do
      for writer <- 1..8 do
        Task.async(fn ->
          for i <- 1..300 do
            PowRedisCache.put(near, {["key", writer], i})
            assert PowRedisCache.get(near, ["key", writer]) == i
            for other <- 1..8, do: PowRedisCache.get(near, ["key", other])
            assert PowRedisCache.get(near, ["key", writer]) == i
          end
        end)
      end
      |> Task.await_many(120_000)

      assert info(near).hits > 0
    end
  end

  test "its memory stays within :max_bytes", context do
    near_cache = [namespaces: [context.namespace], max_bytes: 1_048_576, max_staleness: 60_000]
    near = start_instance(context, near_cache: near_cache)
    Wait.until(fn -> info(near).tracking end)
    keys = for i <- 1..3_000, do: ["key", i]
    PowRedisCache.put(near, Enum.map(keys, &{&1, String.duplicate("x", 300)}))

    Wait.until(fn ->
      for key <- keys, do: assert(byte_size(PowRedisCache.get(near, key)) == 300)
      assert info(near).bytes <= 1_048_576
      info(near).swaps > 1
    end)

    assert info(near).entries < 3_000
    keep(near, ["key", 3_000])
  end

  test "listings find what was written", %{near: near} do
    for i <- 1..50 do
      PowRedisCache.put(near, {["a", i], i})
      assert length(PowRedisCache.all(near, ["a", :_])) == i
    end
  end

  describe "nothing is answered from memory that was read before" do
    @tag server: []
    test "the connection was closed", %{near: near, client: client} do
      PowRedisCache.put(near, {"key", 1})
      keep(near, "key")
      RedisClient.command!(client, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
      Wait.until(fn -> info(near).ends.connection_lost > 0 end)
      Wait.until(fn -> info(near).tracking end)
      %{misses: misses} = info(near)
      assert PowRedisCache.get(near, "key") == 1
      assert info(near).misses == misses + 1
      keep(near, "key")
    end

    @tag server: []
    test "the database was flushed", %{near: near, client: client} do
      PowRedisCache.put(near, {"key", 1})
      keep(near, "key")
      RedisClient.command!(client, ["FLUSHALL"])
      Wait.until(fn -> PowRedisCache.get(near, "key") == :not_found end)
      assert info(near).ends.flushed == 1
      # The owner removes what is no longer valid.
      Wait.until(fn -> info(near).entries == 0 end)
      PowRedisCache.put(near, {"key", 2})
      keep(near, "key")
    end

    test "the instance was restarted", %{near: near} do
      PowRedisCache.put(near, {"key", 1})
      keep(near, "key")
      owner = Process.whereis(near[:name])
      Process.exit(owner, :kill)
      Wait.until(fn -> Process.whereis(near[:name]) not in [owner, nil] end)
      Wait.until(fn -> PowRedisCache.ping(near[:name]) == :ok end)
      assert PowRedisCache.get(near, "key") == 1
      assert %{hits: 0, misses: 1} = info(near)
    end

    test "the instance was stopped", %{near: near} do
      PowRedisCache.put(near, {"key", 1})
      keep(near, "key")
      :ok = stop_supervised(near[:name])
      assert %{reason: :not_started} = catch_error(PowRedisCache.get(near, "key"))
    end
  end

  @tag server: []
  test "where Redis does not permit it, reads go to Redis", context do
    rules = ~w(ACL SETUSER ann on nopass ~* +@all -client|tracking)
    "OK" = RedisClient.command!(context.client, rules)
    near_cache = [namespaces: [context.namespace]]
    options = [username: "ann", password: "any", near_cache: near_cache]

    log =
      capture_log(fn ->
        near = start_instance(context, options)
        PowRedisCache.put(near, {"key", 1})
        for _ <- 1..3, do: assert(PowRedisCache.get(near, "key") == 1)
        assert %{tracking: false, hits: 0, entries: 0} = info(near)
        # The owner has handled its events.
        :sys.get_state(near[:name])
      end)

    assert log =~ "the near cache is off"
    assert log =~ "(`+hello +client|tracking`)"
  end

  # Reads until a read is answered from memory.
  defp keep(config, key), do: Wait.until(fn -> hit?(config, key) end)

  defp hit?(config, key) do
    %{hits: hits} = info(config)
    PowRedisCache.get(config, key)
    info(config).hits > hits
  end

  defp info(config), do: PowRedisCache.info(config[:name]).near_cache
end
