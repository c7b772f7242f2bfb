defmodule PowRedisCache.FaultsTest do
  # What goes wrong with the modules that Pow's guide tells people to paste, and must not with ours.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  alias PowRedisCache.FakeServer

  describe "the first edition" do
    @tag server: [], instance: [index: false]
    test "fails as soon as SCAN needs a second page", %{config: config, client: client} do
      for i <- 1..3_000, do: RedisClient.command!(client, ["SET", "other#{i}", "x"])
      PowRedisCache.put(config, [{["u", 1], 1}, {["u", 2], 2}])
      assert PowRedisCache.all(config, ["u", :_]) == [{["u", 1], 1}, {["u", 2], 2}]
      assert RedisClient.command_counts(client)["scan"] > 1
    end

    @tag instance: [index: false]
    test "fails when a key vanishes between the listing and the reading", %{config: config} do
      vanish_while_listing(config)
    end

    @tag server: ["--maxmemory", "1mb"]
    test "says :ok when Redis refused the write", %{config: config} do
      assert_raise PowRedisCache.Error,
                   "put failed: Redis is out of memory (OOM). Raise its `maxmemory`",
                   fn ->
                     for i <- 1..100,
                         do:
                           PowRedisCache.put(config, {"key#{i}", String.duplicate("x", 100_000)})
                   end
    end
  end

  describe "the current edition" do
    test "lets an index expire before its members", %{
      config: config,
      client: client,
      guide: guide,
      namespace: ns
    } do
      PowRedisCache.put(config, {["a", "long"], 1})
      PowRedisCache.put(Keyword.put(config, :ttl, 100), {["a", "short"], 2})

      value_life =
        RedisClient.command!(client, ["PTTL", PowGuideStore.path(guide, [ns, "a", "long"])])

      for set <- [[ns], [ns, "a"]] do
        assert RedisClient.command!(client, ["PTTL", PowGuideStore.index_set(guide, set)]) >=
                 value_life
      end

      Wait.until(fn -> PowRedisCache.get(config, ["a", "short"]) == :not_found end)
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "long"], 1}]
    end

    test "and lengthens its life for a put with a longer one", %{
      config: config,
      client: client,
      guide: guide,
      namespace: ns
    } do
      PowRedisCache.put(Keyword.put(config, :ttl, 1_000), {["a", "short"], 1})
      PowRedisCache.put(config, {["a", "long"], 2})

      assert RedisClient.command!(client, ["PTTL", PowGuideStore.index_set(guide, [ns, "a"])]) >
               3_500_000
    end

    test "answers [:_] with nothing, and :_ with keys of several parts", %{config: config} do
      PowRedisCache.put(config, [{"one", 1}, {["two", "parts"], 2}])
      assert PowRedisCache.all(config, [:_]) == [{"one", 1}]
      assert PowRedisCache.all(config, :_) == [{"one", 1}]
    end

    test "raises on an empty put", %{config: config} do
      assert PowRedisCache.put(config, []) == :ok
    end

    # There it takes a second: the list of commands is built in quadratic time.
    @tag server: []
    test "is slow to write many records", %{config: config, client: client} do
      PowRedisCache.put(config, for(i <- 1..1_000, do: {["u", i], i}))
      counts = RedisClient.command_counts(client)
      assert counts["set"] == 1_000
      # Two sets in two rounds, instead of one for each record and set.
      assert counts["zadd"] == 4
    end

    test "lets asynchronous put and delete of one key change places", %{config: config} do
      async = Keyword.put(config, :writes, :async)

      for i <- 1..1_000 do
        PowRedisCache.put(async, {["k", i], i})
        PowRedisCache.delete(async, ["k", i])
      end

      PowRedisCache.put(config, {"last", 1})
      assert PowRedisCache.all(config, ["k", :_]) == []
    end

    @tag server: [], instance: [timeout: 2_000]
    test "says :ok to a delete on a read-only replica", %{
      config: config,
      client: client,
      server: server
    } do
      PowRedisCache.put(config, {["a", "key"], 1})
      make_replica(client, server)

      message =
        "delete failed: the server is a replica and takes no writes (READONLY). Let `:url` name the master"

      # A last try for which hardly any time is left ends with `:timeout`.
      error =
        Wait.until(fn ->
          error = catch_error(PowRedisCache.delete(config, ["a", "key"]))
          if error.reason != :timeout, do: error
        end)

      assert Exception.message(error) == message
      assert PowRedisCache.get(config, ["a", "key"]) == 1
    end

    @tag server: [], instance: [timeout: 2_000]
    test "cannot list on a read-only replica, since listing writes", %{
      config: config,
      client: client,
      server: server
    } do
      PowRedisCache.put(config, {["a", "key"], 1})
      make_replica(client, server)
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "key"], 1}]
    end

    test "lists nothing when one value can't be decoded", %{
      config: config,
      client: client,
      guide: guide,
      namespace: ns
    } do
      PowRedisCache.put(config, [{["a", "good"], 1}, {["a", "bad"], 2}])

      RedisClient.command!(client, ["SET", PowGuideStore.path(guide, [ns, "a", "bad"]), "no term"])

      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "good"], 1}]
    end

    test "hides live sessions of a writer whose clock is behind", %{
      config: config,
      client: client,
      guide: guide,
      namespace: ns
    } do
      PowRedisCache.put(config, {["a", "other"], 1})
      PowRedisCache.put(config, {["a", "key"], 2})
      behind = System.os_time(:millisecond) - 3_000

      RedisClient.command!(client, [
        "ZADD",
        PowGuideStore.index_set(guide, [ns, "a"]),
        behind,
        PowGuideStore.path(guide, ["key"])
      ])

      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "key"], 2}, {["a", "other"], 1}]
    end

    @tag instance: [name: nil]
    test "scores are on the server's clock, not on ours" do
      # The server thinks that it is November 2023.
      now = 1_700_000_000
      time = {:send, "*2\r\n$10\r\n#{now}\r\n$1\r\n0\r\n"}
      peer = FakeServer.start!([:default, :next, time, :next, :serve], at: :login)
      name = unique_name()
      start_supervised!({PowRedisCache, name: name, url: FakeServer.url(peer), pool_size: 1})
      assert PowRedisCache.put([name: name, ttl: 1_000], {["a", "key"], 1}) == :ok

      scores =
        for ["ZADD", _set, score, _member] <- FakeServer.commands(peer),
            do: String.to_integer(score)

      assert length(scores) == 2
      for score <- scores, do: assert((score - now * 1_000) in 1_000..61_000)
    end
  end

  describe "both editions" do
    test "hide values that are nil", %{config: config} do
      PowRedisCache.put(config, [{["a", "key"], nil}])
      assert PowRedisCache.get(config, ["a", "key"]) == nil
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "key"], nil}]
    end

    test "decode values without any check", %{
      config: config,
      client: client,
      guide: guide,
      namespace: ns
    } do
      function = :erlang.term_to_binary(&System.halt/1)
      RedisClient.command!(client, ["SET", PowGuideStore.path(guide, [ns, "key"]), function])
      assert PowRedisCache.get(config, "key") == :not_found
    end

    test "raise when a key vanishes while they list", %{config: config} do
      vanish_while_listing(config)
    end
  end

  # The master does not exist: a replica goes on with what it has.
  defp make_replica(client, server) do
    nobody = Ports.free()
    "OK" = RedisClient.command!(client, ["REPLICAOF", "127.0.0.1", nobody])
    assert server.port != nobody
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
