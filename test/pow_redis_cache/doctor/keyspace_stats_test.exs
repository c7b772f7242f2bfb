defmodule PowRedisCache.Doctor.KeyspaceStatsTest do
  # The doctor's checks of the keys, the legacy keys and the index in the database.
  use PowRedisCache.Case, async: true

  import PowRedisCache.Diagnosis

  alias PowRedisCache.Doctor

  @moduletag server: []

  describe "the doctor" do
    test "counts keys of both layouts by namespace", context do
      PowRedisCache.put(context.config, [{["a", 1], 1}, {["a", 2], 2}])
      first = %{context.pow_store | version: 1}
      PowGuideStore.put(first, [context.namespace, "a", 3], 3, 60_000)
      PowGuideStore.put(first, [:other, "b"], 3, 60_000)
      RedisClient.command!(context.client, ["SET", "session:7", "of another app"])

      checks = Doctor.check(name: context.name)
      assert warned(checks) == ["keys"]

      assert detail(checks, "keys") ==
               "#{inspect(context.namespace)} 3 (1 missing from the index); " <>
                 ":other 1 (1 missing from the index); 7 keys in total"

      assert advice(checks, "keys") =~ "reindex"
      plain = Doctor.check(url: RedisServer.url(context.server), index: false)
      assert check(plain, "keys").status == :ok

      PowRedisCache.reindex(name: context.name)
      assert warned(Doctor.check(name: context.name)) == []
    end

    test "counts the index sets that :index does not use", context do
      user = [MyApp.User, :user, 1]
      PowRedisCache.put(context.config, {user ++ [:session, "s"], 1})
      checks = Doctor.check(url: RedisServer.url(context.server))
      assert warned(checks) == []
      index = detail(checks, "index")
      assert index =~ "1 sets with 1 members, 0 of them expired"

      assert index =~
               "4 more that :index does not use: `mix pow_redis_cache.reindex --prune` deletes"
    end

    test "warns about legacy keys until a reindex", context do
      PowGuideStore.put(%{context.pow_store | otp: 25}, [context.namespace, :user, 1], 1, 60_000)
      checks = Doctor.check(name: context.name)
      assert warned(checks) == ["legacy keys"]
      assert detail(checks, "legacy keys") =~ "1 keys written on Erlang/OTP 25 or earlier"
      PowRedisCache.reindex(name: context.name)
      assert warned(Doctor.check(name: context.name)) == []
    end

    test "warns about stale members and about sets that expire early", context do
      # A second key with a shorter TTL makes the example backend shorten the TTL of both index sets.
      PowGuideStore.put(context.pow_store, [context.namespace, "a", 1], 1, 3_600_000)
      PowGuideStore.put(context.pow_store, [context.namespace, "a", 2], 2, 60_000)
      PowRedisCache.put(context.config, [{["b", 1], 1}, {["b", 2], 2}])

      RedisClient.command!(context.client, [
        "DEL",
        PowGuideStore.path(context.pow_store, [context.namespace, "b", 2])
      ])

      checks = Doctor.check(name: context.name)
      assert warned(checks) == ["index"]

      # The last put has extended the TTL of the namespace's set.
      assert detail(checks, "index") ==
               "3 sets with 8 members: 2 unexpired members without a value, " <>
                 "1 sets that expire before one of their keys"

      assert advice(checks, "index") =~ "all/2 ignores such members"
      assert advice(checks, "index") =~ "reindex"

      # A reindex extends the TTL of the set. The stale members are removed by hand.
      PowRedisCache.reindex(name: context.name)
      set = PowGuideStore.index_set(context.pow_store, [context.namespace, "b"])

      for {set, member} <- [
            {set, PowGuideStore.path(context.pow_store, [2])},
            {PowGuideStore.index_set(context.pow_store, [context.namespace]),
             PowGuideStore.path(context.pow_store, ["b", 2])}
          ],
          do: RedisClient.command!(context.client, ["ZREM", set, member])

      assert warned(Doctor.check(name: context.name)) == []
    end

    test "does not warn about expired members", context do
      PowRedisCache.put(Keyword.put(context.config, :ttl, 1), {["a", 1], 1})
      Wait.until(fn -> PowRedisCache.get(context.config, ["a", 1]) == :not_found end)
      checks = Doctor.check(name: context.name)
      assert warned(checks) == []
      assert detail(checks, "index") == "2 sets with 2 members, 2 of them expired"
    end

    test "counts thousands of keys in pages", context do
      records = for user <- 1..150, session <- 1..20, do: {[user, session], :value}
      PowRedisCache.put(context.config, records)
      checks = Doctor.check(name: context.name)
      assert warned(checks) == []
      assert detail(checks, "keys") =~ " 3000; 3151 keys in total"
      assert detail(checks, "index") == "151 sets with 6000 members, 0 of them expired"
    end

    test "shows the keys counted before a timeout" do
      counted = %{
        end: :stopped,
        keys: 9_000,
        too_long: 0,
        namespaces: [{:erlang.term_to_binary("credentials"), 4_000, 0}]
      }

      assert Doctor.KeyspaceStats.check("keys", counted) ==
               {:ok, "\"credentials\" 4000; scanned 9000 keys, stopped after 30 s"}
    end
  end
end
