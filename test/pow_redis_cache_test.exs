defmodule PowRedisCacheTest do
  # The backend, as Pow uses it.
  use PowRedisCache.Case, async: true

  import Bitwise, only: [<<<: 2]

  describe "put, get and delete" do
    test "a record exists from put to delete", %{config: config} do
      assert PowRedisCache.get(config, "key") == :not_found
      assert PowRedisCache.put(config, {"key", "value"}) == :ok
      assert PowRedisCache.get(config, "key") == "value"
      assert PowRedisCache.delete(config, "key") == :ok
      assert PowRedisCache.get(config, "key") == :not_found
      assert PowRedisCache.delete(config, "key") == :ok
    end

    test "a second put replaces the first", %{config: config} do
      PowRedisCache.put(config, {"key", 1})
      PowRedisCache.put(config, {"key", 2})
      assert PowRedisCache.get(config, "key") == 2
      assert PowRedisCache.all(config, :_) == [{"key", 2}]
    end

    test "put takes several records, or none", %{config: config} do
      assert PowRedisCache.put(config, [{"key1", "1"}, {"key2", "2"}]) == :ok
      assert PowRedisCache.get(config, "key1") == "1"
      assert PowRedisCache.get(config, "key2") == "2"
      assert PowRedisCache.put(config, []) == :ok
    end

    test "put takes thousands of records", %{config: config} do
      records = for i <- 1..5_000, do: {["user", i], i}
      assert PowRedisCache.put(config, records) == :ok
      assert PowRedisCache.all(config, ["user", :_]) == records
    end

    test "a value is any term", %{config: config} do
      for value <- [
            nil,
            :not_found,
            1.5,
            -0.0,
            1 <<< 70,
            [1 | 2],
            <<1::3>>,
            %{%{} => {}},
            self(),
            make_ref(),
            ~D[2024-02-29],
            String.duplicate("x", 100_000)
          ] do
        PowRedisCache.put(config, {"key", value})
        assert PowRedisCache.get(config, "key") === value
      end
    end

    test "a part of a key is any term", %{config: config} do
      keys = [
        "",
        "a:b*?[",
        <<255, 0>>,
        :atom,
        :é,
        :日本,
        0,
        -1,
        1 <<< 70,
        1.5,
        [[]],
        ["a", ~c"bc", [1 | 2]],
        {1, {}},
        %{a: %{}},
        [nil],
        [self(), make_ref()],
        <<5::3>>
      ]

      PowRedisCache.put(config, Enum.map(keys, &{["p", &1], &1}))

      for key <- keys do
        assert PowRedisCache.get(config, ["p", key]) === key
      end

      assert PowRedisCache.all(config, ["p", :_]) ==
               keys |> Enum.map(&{["p", &1], &1}) |> Enum.sort()
    end

    test "1 and 1.0 are different keys", %{config: config} do
      PowRedisCache.put(config, [{["n", 1], :integer}, {["n", 1.0], :float}])
      assert PowRedisCache.get(config, ["n", 1]) == :integer
      assert PowRedisCache.get(config, ["n", 1.0]) == :float
      assert PowRedisCache.all(config, ["n", 1]) == [{["n", 1], :integer}]
    end

    test "equal maps are the same key", %{config: config} do
      # Since Erlang/OTP 26, the order of atoms in a map depends on when they were created.
      late = for i <- 20..1//-1, do: {:"late#{System.unique_integer([:positive])}_#{i}", i}
      PowRedisCache.put(config, {["m", Map.new(late)], 1})
      assert PowRedisCache.get(config, ["m", late |> Enum.reverse() |> Map.new()]) == 1
    end

    test "a namespace has separate keys and defaults to \"cache\"", context do
      %{config: config, client: client} = context
      PowRedisCache.put(config, {"key", 1})
      other = Keyword.put(config, :namespace, "other#{context.namespace}")
      assert PowRedisCache.get(other, "key") == :not_found
      assert PowRedisCache.all(other, :_) == []

      default = Keyword.delete(config, :namespace)
      PowRedisCache.put(default, {context.namespace, 2})

      assert RedisClient.command!(client, [
               "EXISTS",
               PowGuideStore.path(context.pow_store, ["cache", context.namespace])
             ]) == 1

      PowRedisCache.delete(default, context.namespace)
    end

    test "nil and a key without parts are the same key", %{config: config} do
      PowRedisCache.put(config, {[], 1})
      assert PowRedisCache.get(config, nil) == 1
      assert PowRedisCache.all(config, []) == [{[], 1}]
      assert PowRedisCache.all(config, :_) == []
    end
  end

  describe "all" do
    test "finds keys with the same number of parts as the pattern", %{config: config} do
      assert PowRedisCache.all(config, :_) == []
      for i <- 1..11, do: PowRedisCache.put(config, {"key#{i}", "value"})
      PowRedisCache.put(config, {["namespace", "key"], "value"})
      PowRedisCache.put(config, {["namespace", "key", "key2"], "value"})

      assert PowRedisCache.all(config, :_) == Enum.sort(for i <- 1..11, do: {"key#{i}", "value"})
      assert PowRedisCache.all(config, ["namespace", :_]) == [{["namespace", "key"], "value"}]
      assert [{["namespace", "key", "key2"], _}] = PowRedisCache.all(config, [:_, "key", :_])
    end

    test "finds sessions and users like Pow", %{config: config} do
      for user <- 1..3, session <- ["s1", "s2"] do
        PowRedisCache.put(config, [
          {"#{session}-#{user}", {[MyApp.User, :user, user], []}},
          {[MyApp.User, :user, user], %{id: user}},
          {[MyApp.User, :user, user, :session, "#{session}-#{user}"], 1}
        ])
      end

      assert PowRedisCache.all(config, [MyApp.User, :user, 2, :session, :_]) == [
               {[MyApp.User, :user, 2, :session, "s1-2"], 1},
               {[MyApp.User, :user, 2, :session, "s2-2"], 1}
             ]

      assert Enum.map(PowRedisCache.all(config, [MyApp.User, :user, :_]), &elem(&1, 1)) ==
               [%{id: 1}, %{id: 2}, %{id: 3}]

      assert length(PowRedisCache.all(config, [MyApp.User, :user, :_, :session, :_])) == 6
    end

    test "finds users with composite primary keys", %{config: config} do
      id = [a: 1, b: "x"]
      PowRedisCache.put(config, {[MyApp.User, :user, id, :session, "s"], 1})

      assert [{[_, _, ^id, _, "s"], 1}] =
               PowRedisCache.all(config, [MyApp.User, :user, id, :session, :_])

      assert [_] = PowRedisCache.all(config, [MyApp.User, :user, [a: :_, b: "x"], :session, :_])
      assert [] = PowRedisCache.all(config, [MyApp.User, :user, [a: 2, b: :_], :session, :_])
    end

    test "takes a key as a pattern", %{config: config} do
      PowRedisCache.put(config, {["a", "b"], 1})
      assert PowRedisCache.all(config, ["a", "b"]) == [{["a", "b"], 1}]
      assert PowRedisCache.all(config, ["a", "c"]) == []
    end

    test "takes an improper list as a pattern", %{config: config, namespace: namespace} do
      records = [{["a"], 0}, {["a", 1], 1}, {["a", 1, 2], 2}, {["b", 1], 3}]
      PowRedisCache.put(config, records)

      for match <- [["a" | :_], [:_ | :_], ["a" | :"$1"], [:_ | [1]]] do
        assert PowRedisCache.all(config, match) == ets_all(namespace, records, match)
      end
    end

    @tag instance: [index: false]
    @tag :standalone
    test "scans the keys without index", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: namespace
    } do
      records = for i <- 1..50, do: {[MyApp.User, :user, i], i}
      PowRedisCache.put(config, records)

      RedisClient.command!(client, [
        "SET",
        PowGuideStore.path(pow_store, [namespace]) <> ":not-base64!",
        "x"
      ])

      assert PowRedisCache.all(config, [MyApp.User, :user, :_]) == records
      assert PowRedisCache.all(config, [MyApp.User, :_, 7]) == [{[MyApp.User, :user, 7], 7}]

      assert RedisClient.command!(client, [
               "EXISTS",
               PowGuideStore.index_set(pow_store, [namespace])
             ]) ==
               0

      PowRedisCache.delete(config, [MyApp.User, :user, 1])
      assert PowRedisCache.all(config, [MyApp.User, :user, :_]) == tl(records)
    end
  end

  describe "the TTL" do
    test "expires records", %{config: config} do
      short = Keyword.put(config, :ttl, 150)
      PowRedisCache.put(config, {["namespace", "key3"], "3"})

      # Puts again if the record expires before it is read.
      Wait.until(fn ->
        PowRedisCache.put(short, [{"key1", "1"}, {["namespace", "key2"], "2"}])
        PowRedisCache.get(config, "key1") == "1"
      end)

      for key <- ["key1", ["namespace", "key2"]],
          do: Wait.until(fn -> PowRedisCache.get(config, key) == :not_found end)

      assert PowRedisCache.all(config, ["namespace", :_]) == [{["namespace", "key3"], "3"}]
    end

    test "is set in milliseconds", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: namespace
    } do
      PowRedisCache.put(config, {"key", 1})

      assert RedisClient.command!(client, [
               "PTTL",
               PowGuideStore.path(pow_store, [namespace, "key"])
             ]) in 3_590_000..3_600_000
    end

    test "is required", %{config: config} do
      message = ~r/^`:ttl` configuration option is required for :cache\d+$/
      # Raises Pow's error if Pow is available.
      error = if Code.ensure_loaded?(Pow.Config), do: Pow.Config.ConfigError, else: ArgumentError

      for function <- [&PowRedisCache.put/2, &PowRedisCache.put_new/2] do
        assert_raise error, message, fn ->
          config |> Keyword.delete(:ttl) |> function.({"key", 1})
        end
      end
    end

    test "is a positive integer", %{config: config} do
      for ttl <- [0, -1, 1.5, "1", 1 <<< 64] do
        assert_raise ArgumentError,
                     ~r/^expected :ttl to be a positive integer \(milliseconds\), got: /,
                     fn ->
                       config |> Keyword.put(:ttl, ttl) |> PowRedisCache.put({"key", 1})
                     end
      end
    end

    @tag instance: [default_ttl: 60_000]
    test "defaults to :default_ttl of the instance", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: namespace
    } do
      config |> Keyword.delete(:ttl) |> PowRedisCache.put({"key", 1})

      assert RedisClient.command!(client, [
               "PTTL",
               PowGuideStore.path(pow_store, [namespace, "key"])
             ]) in 50_000..60_000
    end

    @tag instance: [default_ttl: :infinity]
    test "can be :infinity", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: namespace
    } do
      persistent = Keyword.delete(config, :ttl)
      PowRedisCache.put(persistent, {["a", "key"], 1})

      assert RedisClient.command!(client, [
               "PTTL",
               PowGuideStore.path(pow_store, [namespace, "a", "key"])
             ]) ==
               -1

      set = PowGuideStore.index_set(pow_store, [namespace, "a"])
      # The set needs a TTL: without one, the next put would set its own.
      assert RedisClient.command!(client, ["PTTL", set]) > :timer.hours(24 * 365 * 1_000)
      PowRedisCache.put(config, {["a", "short"], 2})
      assert RedisClient.command!(client, ["PTTL", set]) > :timer.hours(24 * 365 * 1_000)
      PowRedisCache.delete(config, ["a", "short"])

      assert RedisClient.command!(client, ["ZSCORE", set, PowGuideStore.path(pow_store, ["key"])]) ==
               "inf"

      assert PowRedisCache.all(persistent, ["a", :_]) == [{["a", "key"], 1}]
    end
  end

  describe "the index" do
    test "has a set for each prefix of a key", %{
      config: config,
      pow_store: pow_store,
      namespace: ns
    } do
      PowRedisCache.put(config, [{["a", "k1"], 1}, {["a", "k2"], 2}])
      assert PowGuideStore.members(pow_store, [ns]) == [["a", "k1"], ["a", "k2"]]
      assert PowGuideStore.members(pow_store, [ns, "a"]) == [["k1"], ["k2"]]
      PowRedisCache.delete(config, ["a", "k1"])
      assert PowGuideStore.members(pow_store, [ns]) == [["a", "k2"]]
      assert PowGuideStore.members(pow_store, [ns, "a"]) == [["k2"]]
    end

    test "drops members on put that expired more than a day ago", %{
      config: config,
      pow_store: pow_store,
      client: client,
      namespace: ns
    } do
      PowRedisCache.put(config, {["a", "k1"], 1})
      set = PowGuideStore.index_set(pow_store, [ns, "a"])

      # A clock that was wrong by less than a day wrote the second one.
      for {part, hours} <- [{"old", 25}, {"new", 23}] do
        score = System.os_time(:millisecond) - :timer.hours(hours)
        path = PowGuideStore.path(pow_store, [part])
        RedisClient.command!(client, ["ZADD", set, score, path])
      end

      assert PowGuideStore.members(pow_store, [ns, "a"]) == [["old"], ["new"], ["k1"]]

      Wait.until(fn ->
        PowRedisCache.put(config, {["a", "k2"], 2})
        PowGuideStore.members(pow_store, [ns, "a"]) == [["new"], ["k1"], ["k2"]]
      end)
    end

    test "may list members without a value", context do
      %{config: config, pow_store: pow_store, client: client, namespace: ns} = context
      PowRedisCache.put(config, [{["a", "k1"], 1}, {["a", "k2"], 2}])
      RedisClient.command!(client, ["DEL", PowGuideStore.path(pow_store, [ns, "a", "k1"])])
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "k2"], 2}]
    end

    @tag :standalone
    @tag instance: [index: :sessions]
    test "needs 4 commands for a sign-in", %{config: config, server: server} do
      PowRedisCache.ping(config[:name])
      namespace = PowGuideStore.path(%PowGuideStore{}, [config[:namespace]])

      records = [
        {"s", {[MyApp.User, :user, 1], []}},
        {[MyApp.User, :user, 1], %{id: 1}},
        {[MyApp.User, :user, 1, :session, "s"], 1}
      ]

      lines = monitor(server, fn -> PowRedisCache.put(config, records) end)
      assert Enum.count(lines, &(&1 =~ namespace)) == 3 + 4
      assert Enum.count(lines, &(&1 =~ "_index:" <> namespace)) == 4
    end

    test "gets its TTL back with the next put", context do
      %{config: config, pow_store: pow_store, client: client, namespace: ns} = context
      set = PowGuideStore.index_set(pow_store, [ns])

      # An emptied set loses its TTL, and Pow's example backend shortens it.
      for command <- ["DEL #{set}", "PEXPIRE #{set} 9000"] do
        PowRedisCache.put(config, {"k1", 1})
        RedisClient.command!(client, String.split(command))
        PowRedisCache.put(config, {"k2", 2})

        assert RedisClient.command!(client, ["PTTL", set]) > config[:ttl]
      end
    end
  end

  describe "writes: :async" do
    test "keeps the order of writes", %{config: config} do
      async = Keyword.put(config, :writes, :async)

      for i <- 1..500 do
        assert PowRedisCache.put(async, {"key", i}) == :ok
        assert PowRedisCache.delete(async, "key") == :ok
      end

      assert PowRedisCache.put(async, {"key", :last}) == :ok
      Wait.until(fn -> PowRedisCache.get(config, "key") == :last end)
      # On a cluster, the index may be on another primary.
      Wait.until(fn -> PowRedisCache.all(config, :_) == [{"key", :last}] end)
      assert PowRedisCache.delete(async, "key") == :ok
      Wait.until(fn -> PowRedisCache.get(config, "key") == :not_found end)
    end

    @tag instance: [writes: :async]
    test "is an option of the instance that a call overrides", %{config: config} do
      PowRedisCache.put(config, {"key", 1})
      Wait.until(fn -> PowRedisCache.get(config, "key") == 1 end)
      PowRedisCache.delete(Keyword.put(config, :writes, :sync), "key")
      assert PowRedisCache.get(config, "key") == :not_found
    end

    test "keeps the order of asynchronous and synchronous writes", %{config: config} do
      async = Keyword.put(config, :writes, :async)

      for i <- 1..200 do
        PowRedisCache.put(async, {"key#{i}", i})
        PowRedisCache.delete(config, "key#{i}")
        assert PowRedisCache.get(config, "key#{i}") == :not_found
      end
    end
  end

  # The commands that clients send while a function runs.
  defp monitor(server, function) do
    {:ok, socket} =
      :gen_tcp.connect({127, 0, 0, 1}, server.port, [:binary, active: false, packet: :line])

    :ok = :gen_tcp.send(socket, "MONITOR\r\n")
    {:ok, "+OK\r\n"} = :gen_tcp.recv(socket, 0, 30_000)
    function.()
    client = RedisClient.connect!(server.port)
    mark = "mark#{System.unique_integer([:positive])}"
    RedisClient.command!(client, ["ECHO", mark])
    RedisClient.close(client)
    lines = read_lines(socket, mark, [])
    :gen_tcp.close(socket)
    lines
  end

  defp read_lines(socket, mark, lines) do
    {:ok, line} = :gen_tcp.recv(socket, 0, 30_000)
    if line =~ mark, do: lines, else: read_lines(socket, mark, [line | lines])
  end
end
