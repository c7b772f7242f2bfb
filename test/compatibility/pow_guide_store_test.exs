defmodule PowRedisCache.PowGuideStoreTest do
  # Servers with Pow's example backend (v1 or v2) and servers with PowRedisCache share one Redis.
  use PowRedisCache.Case, async: true

  @moduletag :plain

  @user [MyApp.User, :user, 1]
  @ttl 600_000

  defp session(id), do: @user ++ [:session, id]

  for version <- [1, 2], otp <- [25, 26] do
    describe "v#{version} on Erlang/OTP #{otp}" do
      @describetag version: version, otp: otp, instance: [index: version == 2]

      setup %{pow_store: pow_store, version: version, otp: otp} do
        [pow_store: %{pow_store | version: version, otp: otp}]
      end

      test "its sessions are read, listed and deleted by PowRedisCache", %{
        config: config,
        pow_store: pow_store,
        namespace: ns,
        client: client
      } do
        PowGuideStore.put(pow_store, [ns, "s1"], {@user, []}, @ttl)
        PowGuideStore.put(pow_store, [ns | @user], %{id: 1}, @ttl)
        PowGuideStore.put(pow_store, [ns | session("s1")], 1, @ttl)
        PowGuideStore.put(pow_store, [ns | session("s2")], 2, @ttl)

        assert PowRedisCache.get(config, "s1") == {@user, []}
        assert PowRedisCache.get(config, @user) == %{id: 1}
        assert PowRedisCache.all(config, session(:_)) == [{session("s1"), 1}, {session("s2"), 2}]
        assert PowRedisCache.all(config, [MyApp.User, :user, :_]) == [{@user, %{id: 1}}]

        for key <- ["s1", @user, session("s1"), session("s2")],
            do: PowRedisCache.delete(config, key)

        assert PowGuideStore.get(pow_store, [ns, "s1"]) == :not_found

        assert RedisClient.command!(client, ["KEYS", "*#{PowGuideStore.path(pow_store, [ns])}*"]) ==
                 []
      end

      test "PowRedisCache overwrites its values", %{
        config: config,
        pow_store: pow_store,
        namespace: ns
      } do
        PowGuideStore.put(pow_store, [ns | session("s1")], :theirs, @ttl)
        PowRedisCache.put(config, {session("s1"), :ours})
        assert PowRedisCache.get(config, session("s1")) == :ours
        assert PowRedisCache.all(config, session(:_)) == [{session("s1"), :ours}]
      end
    end
  end

  # Earlier releases encode atoms differently, in a form that PowRedisCache never writes.
  for version <- [1, 2] do
    describe "v#{version} on Erlang/OTP 26 and later" do
      @describetag version: version, instance: [index: version == 2]

      setup %{pow_store: pow_store, version: version},
        do: [pow_store: %{pow_store | version: version}]

      test "reads, lists and deletes sessions of PowRedisCache", %{
        config: config,
        pow_store: pow_store,
        namespace: ns
      } do
        PowRedisCache.put(config, [
          {"s1", {@user, []}},
          {@user, %{id: 1}},
          {session("s1"), 1},
          {session("s2"), 2}
        ])

        assert PowGuideStore.get(pow_store, [ns, "s1"]) == {@user, []}
        assert PowGuideStore.get(pow_store, [ns | @user]) == %{id: 1}

        assert pow_store |> PowGuideStore.all([ns | @user] ++ [:session], 1) |> Enum.sort() ==
                 [{session("s1"), 1}, {session("s2"), 2}]

        PowGuideStore.delete(pow_store, [ns | session("s1")])
        assert PowRedisCache.all(config, session(:_)) == [{session("s2"), 2}]
        assert PowRedisCache.get(config, session("s1")) == :not_found
      end
    end
  end

  describe "keys without atoms" do
    test "are the same on all releases", %{config: config, pow_store: pow_store, namespace: ns} do
      PowRedisCache.put(config, {["token", 1], :ours})
      assert PowGuideStore.get(%{pow_store | otp: 25}, [ns, "token", 1]) == :ours

      assert PowGuideStore.all(%{pow_store | otp: 25}, [ns, "token"], 1) == [
               {["token", 1], :ours}
             ]
    end
  end

  describe "reindex" do
    @describetag server: []

    test "renames legacy keys and keeps the newer value", %{
      config: config,
      pow_store: pow_store,
      namespace: ns
    } do
      legacy = %{pow_store | otp: 25}
      PowGuideStore.put(legacy, [ns | session("s1")], 1, @ttl)
      PowGuideStore.put(legacy, [ns | session("s2")], :older, @ttl)
      PowGuideStore.put(legacy, [ns, "token"], 3, @ttl)
      PowRedisCache.put(config, {session("s2"), :newer})

      assert PowRedisCache.reindex(name: config[:name]) == %{
               keys: 4,
               indexed: 1,
               renamed: 2,
               skipped: 0
             }

      assert PowGuideStore.get(pow_store, [ns | session("s1")]) == 1
      assert PowGuideStore.get(pow_store, [ns | session("s2")]) == :newer
      assert PowGuideStore.get(legacy, [ns | session("s1")]) == :not_found
      assert PowGuideStore.get(legacy, [ns | session("s2")]) == :not_found

      assert PowGuideStore.members(pow_store, [ns, MyApp.User, :user, 1, :session]) == [
               ["s1"],
               ["s2"]
             ]

      assert PowGuideStore.members(legacy, [ns, MyApp.User]) == []

      assert PowRedisCache.all(config, session(:_)) == [
               {session("s1"), 1},
               {session("s2"), :newer}
             ]

      assert PowRedisCache.reindex(name: config[:name]) == %{
               keys: 3,
               indexed: 0,
               renamed: 0,
               skipped: 0
             }
    end

    test "indexes the records of v1 page by page", %{
      config: config,
      pow_store: pow_store,
      namespace: ns,
      client: client
    } do
      v1 = %{pow_store | version: 1}
      for i <- 1..2_000, do: PowGuideStore.put(v1, [ns, "user", i], i, @ttl)
      RedisClient.command!(client, ["SET", "another app's", "value"])
      RedisClient.command!(client, ["RPUSH", PowGuideStore.path(pow_store, [ns, "list"]), "x"])
      assert PowRedisCache.all(config, ["user", :_]) == []

      test = self()
      numbers = PowRedisCache.reindex(name: config[:name], progress: &send(test, {:progress, &1}))
      assert numbers == %{keys: 2_000, indexed: 2_000, renamed: 0, skipped: 0}
      assert_received {:progress, %{keys: keys}} when keys < 2_000
      all = Map.put(numbers, :fraction, 1.0)
      assert_received {:progress, ^all}

      assert PowRedisCache.all(config, ["user", :_]) == for(i <- 1..2_000, do: {["user", i], i})

      ttl =
        RedisClient.command!(client, ["PTTL", PowGuideStore.index_set(pow_store, [ns, "user"])])

      assert ttl >=
               RedisClient.command!(client, [
                 "PTTL",
                 PowGuideStore.path(pow_store, [ns, "user", 2_000])
               ])
    end
  end
end
