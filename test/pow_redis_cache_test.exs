defmodule PowRedisCacheTest do
  # The behaviour, as Pow uses it.
  use PowRedisCache.Case, async: true

  import Bitwise, only: [<<<: 2]

  describe "put, get and delete" do
    test "a record is there from put to delete", %{config: config} do
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

    test "several records at once, or none", %{config: config} do
      assert PowRedisCache.put(config, [{"key1", "1"}, {"key2", "2"}]) == :ok
      assert PowRedisCache.get(config, "key1") == "1"
      assert PowRedisCache.get(config, "key2") == "2"
      assert PowRedisCache.put(config, []) == :ok
    end

    test "thousands of records at once", %{config: config} do
      records = for i <- 1..5_000, do: {["user", i], i}
      assert PowRedisCache.put(config, records) == :ok
      assert PowRedisCache.all(config, ["user", :_]) == records
    end

    test "any term is a value", %{config: config} do
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

    test "any term is a part of a key", %{config: config} do
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

    test "numbers that are equal but not the same are different keys", %{config: config} do
      PowRedisCache.put(config, [{["n", 1], :integer}, {["n", 1.0], :float}])
      assert PowRedisCache.get(config, ["n", 1]) == :integer
      assert PowRedisCache.get(config, ["n", 1.0]) == :float
      assert PowRedisCache.all(config, ["n", 1]) == [{["n", 1], :integer}]
    end

    test "a map is the same key however it was built", %{config: config} do
      # Erlang/OTP 26 and later order the keys of a map by when the atoms were made.
      late = for i <- 20..1//-1, do: {:"late#{System.unique_integer([:positive])}_#{i}", i}
      PowRedisCache.put(config, {["m", Map.new(late)], 1})
      assert PowRedisCache.get(config, ["m", late |> Enum.reverse() |> Map.new()]) == 1
    end

    test "a namespace has keys of its own, \"cache\" by default", context do
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

    test "the key nil, and no parts, are the namespace's own", %{config: config} do
      PowRedisCache.put(config, {[], 1})
      assert PowRedisCache.get(config, nil) == 1
      assert PowRedisCache.all(config, []) == [{[], 1}]
      assert PowRedisCache.all(config, :_) == []
    end
  end

  describe "all" do
    test "finds keys of as many parts as the pattern", %{config: config} do
      assert PowRedisCache.all(config, :_) == []
      for i <- 1..11, do: PowRedisCache.put(config, {"key#{i}", "value"})
      PowRedisCache.put(config, {["namespace", "key"], "value"})
      PowRedisCache.put(config, {["namespace", "key", "key2"], "value"})

      assert PowRedisCache.all(config, :_) == Enum.sort(for i <- 1..11, do: {"key#{i}", "value"})
      assert PowRedisCache.all(config, ["namespace", :_]) == [{["namespace", "key"], "value"}]
      assert [{["namespace", "key", "key2"], _}] = PowRedisCache.all(config, [:_, "key", :_])
    end

    test "sessions and users, as Pow asks for them", %{config: config} do
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

    test "composite primary keys", %{config: config} do
      id = [a: 1, b: "x"]
      PowRedisCache.put(config, {[MyApp.User, :user, id, :session, "s"], 1})

      assert [{[_, _, ^id, _, "s"], 1}] =
               PowRedisCache.all(config, [MyApp.User, :user, id, :session, :_])

      assert [_] = PowRedisCache.all(config, [MyApp.User, :user, [a: :_, b: "x"], :session, :_])
      assert [] = PowRedisCache.all(config, [MyApp.User, :user, [a: 2, b: :_], :session, :_])
    end

    test "a pattern without wildcard is a key", %{config: config} do
      PowRedisCache.put(config, {["a", "b"], 1})
      assert PowRedisCache.all(config, ["a", "b"]) == [{["a", "b"], 1}]
      assert PowRedisCache.all(config, ["a", "c"]) == []
    end

    test "a pattern with an open end", %{config: config, namespace: namespace} do
      records = [{["a"], 0}, {["a", 1], 1}, {["a", 1, 2], 2}, {["b", 1], 3}]
      PowRedisCache.put(config, records)

      for match <- [["a" | :_], [:_ | :_], ["a" | :"$1"], [:_ | [1]]] do
        assert PowRedisCache.all(config, match) == ets_all(namespace, records, match)
      end
    end

    @tag instance: [index: false]
    @tag :standalone
    test "works the same without index", %{
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

  describe "time to live" do
    test "records are gone when it is over", %{config: config} do
      short = Keyword.put(config, :ttl, 150)
      PowRedisCache.put(config, {["namespace", "key3"], "3"})

      # Put again, should it be over before it is read.
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
      # Pow's own error where Pow is there.
      error = if Code.ensure_loaded?(Pow.Config), do: Pow.Config.ConfigError, else: ArgumentError

      assert_raise error, message, fn ->
        config |> Keyword.delete(:ttl) |> PowRedisCache.put({"key", 1})
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
    test "comes from the instance else", %{
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
    test "can be without end", %{
      config: config,
      client: client,
      pow_store: pow_store,
      namespace: namespace
    } do
      endless = Keyword.delete(config, :ttl)
      PowRedisCache.put(endless, {["a", "key"], 1})

      assert RedisClient.command!(client, [
               "PTTL",
               PowGuideStore.path(pow_store, [namespace, "a", "key"])
             ]) ==
               -1

      set = PowGuideStore.index_set(pow_store, [namespace, "a"])
      # Not none at all: that would be for the next put to set.
      assert RedisClient.command!(client, ["PTTL", set]) > :timer.hours(24 * 365 * 1_000)
      PowRedisCache.put(config, {["a", "short"], 2})
      assert RedisClient.command!(client, ["PTTL", set]) > :timer.hours(24 * 365 * 1_000)
      PowRedisCache.delete(config, ["a", "short"])

      assert RedisClient.command!(client, ["ZSCORE", set, PowGuideStore.path(pow_store, ["key"])]) ==
               "inf"

      assert PowRedisCache.all(endless, ["a", :_]) == [{["a", "key"], 1}]
    end
  end

  describe "the index" do
    test "holds a key in a set for each of its first parts", %{
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

    test "a put drops members that expired", %{
      config: config,
      pow_store: pow_store,
      client: client,
      namespace: ns
    } do
      PowRedisCache.put(config, {["a", "k1"], 1})
      long_ago = System.os_time(:millisecond) - 60_000
      set = PowGuideStore.index_set(pow_store, [ns, "a"])

      RedisClient.command!(client, ["ZADD", set, long_ago, PowGuideStore.path(pow_store, ["old"])])

      assert PowGuideStore.members(pow_store, [ns, "a"]) == [["old"], ["k1"]]

      Wait.until(fn ->
        PowRedisCache.put(config, {["a", "k2"], 2})
        PowGuideStore.members(pow_store, [ns, "a"]) == [["k1"], ["k2"]]
      end)
    end

    @tag instance: [timeout: 1_500]
    test "all removes members whose value is gone", %{
      config: config,
      pow_store: pow_store,
      client: client,
      namespace: ns
    } do
      PowRedisCache.put(config, [{["a", "k1"], 1}, {["a", "k2"], 2}, {["a", "k3"], 3}])
      RedisClient.command!(client, ["DEL", PowGuideStore.path(pow_store, [ns, "a", "k1"])])
      RedisClient.command!(client, ["DEL", PowGuideStore.path(pow_store, [ns, "a", "k3"])])
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "k2"], 2}]
      # One comes back before the repair: it stays.
      PowRedisCache.put(config, {["a", "k3"], 4})
      Wait.until(fn -> PowGuideStore.members(pow_store, [ns, "a"]) == [["k2"], ["k3"]] end)
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "k2"], 2}, {["a", "k3"], 4}]
    end

    @tag :standalone
    test "a sign-in takes 18 commands, one of many 12", %{config: config, server: server} do
      PowRedisCache.ping(config[:name])
      namespace = PowGuideStore.path(%PowGuideStore{}, [config[:namespace]])

      sign_in = fn user ->
        session = "s#{user}"

        records = [
          {session, {[MyApp.User, :user, user], []}},
          {[MyApp.User, :user, user], %{id: user}},
          {[MyApp.User, :user, user, :session, session], 1}
        ]

        lines = monitor(server, fn -> PowRedisCache.put(config, records) end)
        Enum.count(lines, &(&1 =~ namespace))
      end

      assert sign_in.(1) == 18
      # Within a second of the last one.
      Wait.until(fn -> sign_in.(System.unique_integer([:positive])) == 12 end)
    end

    test "is looked after a second after a put at the latest", context do
      %{config: config, pow_store: pow_store, client: client, namespace: ns} = context
      set = PowGuideStore.index_set(pow_store, [ns])

      # Emptied, a set loses its expiry; the guide's module gives it that of its own records.
      for lives <- ["DEL #{set}", "PEXPIRE #{set} 9000"] do
        PowRedisCache.put(config, {"k1", 1})
        RedisClient.command!(client, String.split(lives))
        PowRedisCache.put(config, {"k2", 2})

        Wait.until(fn ->
          RedisClient.command!(client, ["PTTL", set]) > config[:ttl]
        end)
      end
    end
  end

  describe "writes: :async" do
    test "are done soon, in their order", %{config: config} do
      async = Keyword.put(config, :writes, :async)

      for i <- 1..500 do
        assert PowRedisCache.put(async, {"key", i}) == :ok
        assert PowRedisCache.delete(async, "key") == :ok
      end

      assert PowRedisCache.put(async, {"key", :last}) == :ok
      Wait.until(fn -> PowRedisCache.get(config, "key") == :last end)
      # The index may be on another master.
      Wait.until(fn -> PowRedisCache.all(config, :_) == [{"key", :last}] end)
      assert PowRedisCache.delete(async, "key") == :ok
      Wait.until(fn -> PowRedisCache.get(config, "key") == :not_found end)
    end

    @tag instance: [writes: :async]
    test "as an option of the instance; a call's own comes first", %{config: config} do
      PowRedisCache.put(config, {"key", 1})
      Wait.until(fn -> PowRedisCache.get(config, "key") == 1 end)
      PowRedisCache.delete(Keyword.put(config, :writes, :sync), "key")
      assert PowRedisCache.get(config, "key") == :not_found
    end

    test "a write follows those before it, however they are done", %{config: config} do
      async = Keyword.put(config, :writes, :async)

      for i <- 1..200 do
        PowRedisCache.put(async, {"key#{i}", i})
        PowRedisCache.delete(config, "key#{i}")
        assert PowRedisCache.get(config, "key#{i}") == :not_found
      end
    end
  end

  # The commands that other clients send while a function runs.
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
