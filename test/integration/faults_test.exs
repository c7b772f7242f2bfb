defmodule PowRedisCache.FaultsTest do
  # Faults of Pow's example backend (v1 and v2) that PowRedisCache must not have.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  alias PowRedisCache.FakeServer

  describe "unlike v1 of Pow's example backend," do
    @tag server: [], instance: [index: false]
    test "all/2 reads all pages of a SCAN", %{config: config, client: client} do
      for i <- 1..3_000, do: RedisClient.command!(client, ["SET", "other#{i}", "x"])
      PowRedisCache.put(config, [{["u", 1], 1}, {["u", 2], 2}])
      assert PowRedisCache.all(config, ["u", :_]) == [{["u", 1], 1}, {["u", 2], 2}]
      assert RedisClient.command_counts(client)["scan"] > 1
    end

    @tag instance: [index: false]
    test "all/2 skips keys that vanish between SCAN and GET", %{config: config} do
      vanish_while_listing(config)
    end

    @tag server: ["--maxmemory", "1mb"]
    test "put/2 raises if Redis rejects the write", %{config: config} do
      assert_raise PowRedisCache.Error,
                   ~r/^put failed: Redis is out of memory \(OOM\)\. Raise its `maxmemory`/,
                   fn ->
                     for i <- 1..100,
                         do:
                           PowRedisCache.put(config, {"key#{i}", String.duplicate("x", 100_000)})
                   end
    end
  end

  describe "unlike v2 of Pow's example backend," do
    test "an index set lives as long as its members", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: ns
    } do
      PowRedisCache.put(config, {["a", "long"], 1})
      PowRedisCache.put(Keyword.put(config, :ttl, 100), {["a", "short"], 2})

      value_ttl =
        RedisClient.command!(client, ["PTTL", PowGuideStore.path(pow_store, [ns, "a", "long"])])

      for set <- [[ns], [ns, "a"]] do
        assert RedisClient.command!(client, ["PTTL", PowGuideStore.index_set(pow_store, set)]) >=
                 value_ttl
      end

      Wait.until(fn -> PowRedisCache.get(config, ["a", "short"]) == :not_found end)
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "long"], 1}]
    end

    test "a put with a longer TTL extends the TTL of the index set", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: ns
    } do
      PowRedisCache.put(Keyword.put(config, :ttl, 1_000), {["a", "short"], 1})
      PowRedisCache.put(config, {["a", "long"], 2})

      assert RedisClient.command!(client, ["PTTL", PowGuideStore.index_set(pow_store, [ns, "a"])]) >
               3_500_000
    end

    test "[:_] and :_ match the keys of one part", %{config: config} do
      PowRedisCache.put(config, [{"one", 1}, {["two", "parts"], 2}])
      assert PowRedisCache.all(config, [:_]) == [{"one", 1}]
      assert PowRedisCache.all(config, :_) == [{"one", 1}]
    end

    test "an empty put returns :ok", %{config: config} do
      assert PowRedisCache.put(config, []) == :ok
    end

    # v2 takes a second, since it builds the list of commands in quadratic time.
    @tag server: []
    test "a put of many records sends few ZADD commands", %{config: config, client: client} do
      PowRedisCache.put(config, for(i <- 1..1_000, do: {["u", i], i}))
      counts = RedisClient.command_counts(client)
      assert counts["set"] == 1_000
      # Two sets, in two batches. v2 sends one ZADD for each record and set.
      assert counts["zadd"] == 4
    end

    test "asynchronous put and delete of one key keep their order", %{config: config} do
      async = Keyword.put(config, :writes, :async)

      for i <- 1..1_000 do
        PowRedisCache.put(async, {["k", i], i})
        PowRedisCache.delete(async, ["k", i])
      end

      PowRedisCache.put(config, {"last", 1})
      assert PowRedisCache.all(config, ["k", :_]) == []
    end

    @tag server: [], instance: [timeout: 5_000]
    test "delete/2 raises on a read-only replica", %{
      config: config,
      client: client,
      server: server
    } do
      PowRedisCache.put(config, {["a", "key"], 1})
      make_replica(client, server)

      message =
        "delete failed: the server is a read-only replica (READONLY). Point `:url` at the primary. " <>
          ~s(Redis said: "READONLY You can't write against a read only replica.")

      error = catch_error(PowRedisCache.delete(config, ["a", "key"]))
      assert Exception.message(error) == message
      assert PowRedisCache.get(config, ["a", "key"]) == 1
    end

    @tag server: [], instance: [timeout: 2_000]
    test "all/2 works on a read-only replica", %{
      config: config,
      client: client,
      server: server
    } do
      PowRedisCache.put(config, {["a", "key"], 1})
      make_replica(client, server)
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "key"], 1}]
    end

    test "all/2 ignores a value that cannot be decoded", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: ns
    } do
      PowRedisCache.put(config, [{["a", "good"], 1}, {["a", "bad"], 2}])

      RedisClient.command!(client, [
        "SET",
        PowGuideStore.path(pow_store, [ns, "a", "bad"]),
        "no term"
      ])

      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "good"], 1}]
    end

    test "all/2 lists sessions of a writer whose clock is behind", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: ns
    } do
      PowRedisCache.put(config, {["a", "other"], 1})
      PowRedisCache.put(config, {["a", "key"], 2})
      behind = System.os_time(:millisecond) - 3_000

      RedisClient.command!(client, [
        "ZADD",
        PowGuideStore.index_set(pow_store, [ns, "a"]),
        behind,
        PowGuideStore.path(pow_store, ["key"])
      ])

      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "key"], 2}, {["a", "other"], 1}]
    end

    @tag instance: [name: nil]
    test "scores use the server's clock" do
      # The server's clock is in November 2023.
      now = 1_700_000_000
      time = {:send, "*2\r\n$10\r\n#{now}\r\n$1\r\n0\r\n"}
      reply = fn command -> if command == ["TIME"], do: [time], else: [:default] end
      fake_server = FakeServer.start!([{:serve, reply}], at: :login)
      name = unique_name()

      start_supervised!(
        {PowRedisCache, name: name, url: FakeServer.url(fake_server), pool_size: 1, index: true}
      )

      assert PowRedisCache.put([name: name, ttl: 1_000], {["a", "key"], 1}) == :ok

      scores =
        for ["ZADD", _set, score, _member] <- FakeServer.commands(fake_server),
            do: String.to_integer(score)

      assert length(scores) == 2
      for score <- scores, do: assert((score - now * 1_000) in 1_000..61_000)
    end
  end

  describe "unlike both versions of Pow's example backend," do
    test "all/2 lists values that are nil", %{config: config} do
      PowRedisCache.put(config, [{["a", "key"], nil}])
      assert PowRedisCache.get(config, ["a", "key"]) == nil
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "key"], nil}]
    end

    test "values with functions are not decoded", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: ns
    } do
      function = :erlang.term_to_binary(&System.halt/1)
      RedisClient.command!(client, ["SET", PowGuideStore.path(pow_store, [ns, "key"]), function])
      assert PowRedisCache.get(config, "key") == :not_found
    end

    test "all/2 skips keys that vanish between ZSCAN and GET", %{config: config} do
      vanish_while_listing(config)
    end
  end

  # The primary does not exist: the replica keeps its data.
  defp make_replica(client, server) do
    unused = Ports.free()
    "OK" = RedisClient.command!(client, ["REPLICAOF", "127.0.0.1", unused])
    assert server.port != unused
  end

  defp vanish_while_listing(config) do
    stays = for i <- 1..20, do: {["u", "stays", i], i}
    PowRedisCache.put(config, stays)

    writer =
      Task.async(fn ->
        for i <- 1..1_500 do
          PowRedisCache.put(config, {["u", "goes", i], i})
          PowRedisCache.delete(config, ["u", "goes", i])
        end
      end)

    list_while_alive(writer, config, stays)
  end

  defp list_while_alive(writer, config, stays) do
    found = PowRedisCache.all(config, ["u", :_, :_])
    assert stays -- found == []

    case Task.yield(writer, 0) do
      nil -> list_while_alive(writer, config, stays)
      {:ok, _} -> assert PowRedisCache.all(config, ["u", :_, :_]) == stays
    end
  end
end
