defmodule PowRedisCache.IndexTest do
  # Servers with different indexes on one database, as in a rolling deploy.
  use PowRedisCache.Case, async: true

  alias PowRedisCache.Cases

  # A server of its own: scans read the keys of all tests that share one.
  @moduletag server: []
  @moduletag instance: [index: :sessions]

  @rounds 40

  describe "with :sessions" do
    # What Pow asks for at each sign-in.
    @tag :plain
    test "a user's sessions are found whoever wrote them", context do
      seed = ExUnit.configuration()[:seed]
      :rand.seed(:exsss, {seed, 5, 6})
      every = start_instance(context, index: true)
      patterns = start_instance(context, index: [[MyApp.User, :user, :_, :session, :_]])

      v2 =
        for otp <- [25, 26],
            do: %{context.pow_store | version: 2, otp: otp}

      writers = [context.config, every, patterns] ++ v2

      for round <- 1..Cases.count(@rounds) do
        records =
          for session <- 1..8 do
            key = [MyApp.User, :user, round, :session, "s#{session}"]
            write(Enum.random(writers), context.namespace, key, session)
            {key, session}
          end

        {deleted, left} = Enum.split(Enum.shuffle(records), 2)

        for {key, _value} <- deleted,
            do: remove(Enum.random([context.config, every, patterns]), key)

        for reader <- [context.config, every, patterns] do
          match = [MyApp.User, :user, round, :session, :_]
          assert PowRedisCache.all(reader, match) == Enum.sort(left), "seed #{seed}"
        end

        # v2 finds those written in its own form.
        for pow_store <- v2 do
          prefix = [context.namespace, MyApp.User, :user, round, :session]
          found = PowGuideStore.all(pow_store, prefix, 1)
          assert found -- left == []
        end
      end
    end

    @tag :plain
    test "v2 finds what a new server writes, and the other way round", context do
      %{config: config, pow_store: v2, namespace: ns} = context
      user = [MyApp.User, :user, 1]
      PowRedisCache.put(config, [{user ++ [:session, "new"], 1}, {user, 0}])
      PowGuideStore.put(v2, [ns | user ++ [:session, "old"]], 2, 60_000)
      both = [{user ++ [:session, "new"], 1}, {user ++ [:session, "old"], 2}]

      assert PowRedisCache.all(config, user ++ [:session, :_]) == both
      assert v2 |> PowGuideStore.all([ns | user ++ [:session]], 1) |> Enum.sort() == both
      # v2 enters the user under every prefix, the new server does not.
      assert PowGuideStore.all(v2, [ns, MyApp.User, :user], 1) == []
      assert PowRedisCache.all(config, [MyApp.User, :user, :_]) == [{user, 0}]

      PowRedisCache.delete(config, user ++ [:session, "old"])
      assert PowGuideStore.all(v2, [ns | user ++ [:session]], 1) == [hd(both)]
      # Other sets of v2 still list it, without a value.
      assert PowGuideStore.all(v2, [ns | user], 2) == []
      PowGuideStore.delete(v2, [ns | user ++ [:session, "new"]])
      assert PowRedisCache.all(config, user ++ [:session, :_]) == []
    end

    test "an instance with index: true finds a session by the set that both enter", context do
      every = start_instance(context, index: true)
      user = [MyApp.User, :user, 1]
      session = {user ++ [:session, "s"], 1}
      PowRedisCache.put(context.config, session)
      assert PowRedisCache.all(every, user ++ [:session, :_]) == [session]
      # It trusts its other sets, which the new server does not enter until a reindex.
      assert PowRedisCache.all(every, user ++ [:_, :_]) == []
      assert %{indexed: 1} = PowRedisCache.reindex(name: every[:name])
      assert PowRedisCache.all(every, user ++ [:_, :_]) == [session]
      assert PowRedisCache.all(context.config, user ++ [:_, :_]) == [session]
    end

    test "sessions of servers that enter nothing are missed until a reindex", context do
      plain = start_instance(context, index: false)
      v1 = %{context.pow_store | version: 1}
      user = [MyApp.User, :user, 1]
      sessions = [{user ++ [:session, "plain"], 1}, {user ++ [:session, "v1"], 2}]
      PowRedisCache.put(plain, hd(sessions))
      PowGuideStore.put(v1, [context.namespace | user ++ [:session, "v1"]], 2, 60_000)

      match = user ++ [:session, :_]
      assert PowRedisCache.all(context.config, match) == []
      # A scan finds them.
      assert PowRedisCache.all(context.config, user ++ [:_, :_]) == sessions
      assert PowRedisCache.all(plain, match) == sessions
      assert %{indexed: 2} = PowRedisCache.reindex(name: context.name)
      assert PowRedisCache.all(context.config, match) == sessions
    end
  end

  describe "prune" do
    test "deletes the sets that :index does not use, and only those", context do
      %{config: config, client: client, pow_store: v2, namespace: ns} = context
      user = [MyApp.User, :user, 1]
      PowGuideStore.put(v2, [ns | user ++ [:session, "s"]], 1, 600_000)
      RedisClient.command!(client, ["ZADD", "another app's set", 1, "x"])
      RedisClient.command!(client, ["ZADD", "_index:another app's", 1, "x"])
      numbers = %{keys: 1, indexed: 0, renamed: 0, skipped: 0, pruned: 4}

      before = RedisClient.command!(client, ["DBSIZE"])
      assert PowRedisCache.reindex(name: config[:name], prune: true, dry_run: true) == numbers
      refute Map.has_key?(PowRedisCache.reindex(name: config[:name]), :pruned)
      assert RedisClient.command!(client, ["DBSIZE"]) == before
      assert PowRedisCache.reindex(name: config[:name], prune: true) == numbers
      assert RedisClient.command!(client, ["DBSIZE"]) == before - 4

      set = PowGuideStore.index_set(v2, [ns | user ++ [:session]])
      assert RedisClient.command!(client, ["EXISTS", set]) == 1
      match = user ++ [:session, :_]
      assert PowRedisCache.all(config, match) == [{user ++ [:session, "s"], 1}]
    end
  end

  defp write(%PowGuideStore{} = pow_store, namespace, key, value) do
    PowGuideStore.put(pow_store, [namespace | key], value, 600_000)
  end

  defp write(config, _namespace, key, value), do: PowRedisCache.put(config, {key, value})

  defp remove(config, key), do: PowRedisCache.delete(config, key)
end
