defmodule PowRedisCache.MigratingTest do
  # The claims of guides/migrating.md that no other test covers.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureIO

  alias PowRedisCache.{DocumentTables, MnesiaStub}

  @moduletag :plain
  @moduletag server: []

  @guide_file Path.expand("../../guides/migrating.md", __DIR__)
  @guide File.read!(@guide_file)

  @user [MyApp.User, :user, 1]
  @ttl 600_000

  setup_all do
    MnesiaStub.new()
    code = Enum.find(snippets(), &(&1 =~ "defmodule MyApp.SessionStore"))
    mnesia_alias = "alias Pow.Store.Backend.MnesiaCache\n"
    assert code =~ mnesia_alias
    code = String.replace(code, mnesia_alias, "alias #{inspect(MnesiaStub)}, as: MnesiaCache\n")
    # Without Pow, the compiler warns about the missing behaviour.
    capture_io(:stderr, fn -> Code.compile_string(code, @guide_file) end)
    [session_store: MyApp.SessionStore]
  end

  describe "the guide" do
    test "names a test for each row" do
      tables = DocumentTables.read(@guide)
      assert length(tables) == 5
      Enum.each(tables, &DocumentTables.assert_tested/1)
    end

    test "contains only valid Elixir" do
      for code <- snippets(), do: assert({:ok, _} = Code.string_to_quoted(code))
    end

    test "links only to existing files" do
      for [_, link] <- Regex.scan(~r/\]\(([^)#]+)\)/, @guide) do
        assert File.regular?(Path.expand(link, Path.dirname(@guide_file))), link
      end
    end
  end

  # A server of the app runs `{:pow_redis_cache, config}` or Pow's example backend,
  # `{:example, pow_store, namespace}`. Logins and logouts write what Pow's CredentialsCache writes.

  defp login(server, session) do
    put(server, session, {@user, fingerprint: "f"})
    put(server, @user, %{id: 1})
    put(server, session_key(session), 1_700_000_000_000)
  end

  defp logout(server, session) do
    delete(server, session)
    delete(server, session_key(session))
  end

  defp renew(server, from, to) do
    logout(server, from)
    login(server, to)
  end

  defp logged_in?(server, session) do
    with {user_key, _metadata} <- get(server, session), %{} <- get(server, user_key) do
      true
    else
      :not_found -> false
    end
  end

  defp session_key(session), do: @user ++ [:session, session]

  defp put({:pow_redis_cache, config}, key, value), do: PowRedisCache.put(config, {key, value})

  defp put({:example, pow_store, ns}, key, value),
    do: PowGuideStore.put(pow_store, [ns | wrap(key)], value, @ttl)

  defp get({:pow_redis_cache, config}, key), do: PowRedisCache.get(config, key)
  defp get({:example, pow_store, ns}, key), do: PowGuideStore.get(pow_store, [ns | wrap(key)])

  defp delete({:pow_redis_cache, config}, key), do: PowRedisCache.delete(config, key)

  defp delete({:example, pow_store, ns}, key),
    do: PowGuideStore.delete(pow_store, [ns | wrap(key)])

  defp sessions({:pow_redis_cache, config}) do
    for {key, _at} <- PowRedisCache.all(config, session_key(:_)), do: List.last(key)
  end

  defp sessions({:example, pow_store, ns}) do
    found = PowGuideStore.all(pow_store, [ns | @user] ++ [:session], 1)
    found |> Enum.map(fn {key, _at} -> List.last(key) end) |> Enum.sort()
  end

  defp wrap(key), do: List.wrap(key)

  defp servers(context, otp) do
    pow_store = %{context.pow_store | version: context[:version] || 2, otp: otp}
    {{:pow_redis_cache, context.config}, {:example, pow_store, context.namespace}}
  end

  for version <- [1, 2] do
    describe "from v#{version}" do
      @describetag version: version, instance: [index: version == 2]

      test "a rolling deploy keeps everyone logged in", context do
        {new, old} = servers(context, 26)

        for {one, other} <- [{old, new}, {new, old}] do
          login(one, "1")
          assert logged_in?(other, "1")
          renew(other, "1", "2")
          assert logged_in?(one, "2") and logged_in?(other, "2")
          refute logged_in?(one, "1") or logged_in?(other, "1")
          login(one, "3")
          assert sessions(one) == ["2", "3"]
          assert sessions(other) == ["2", "3"]
          logout(one, "2")
          logout(other, "3")
          for server <- [one, other], s <- ["2", "3"], do: refute(logged_in?(server, s))
          assert sessions(one) == []
          assert sessions(other) == []
        end
      end

      test "a rollback keeps everyone logged in", context do
        {new, old} = servers(context, 26)
        login(new, "1")
        assert logged_in?(old, "1")
        assert sessions(old) == ["1"]
        renew(old, "1", "2")
        assert logged_in?(old, "2")
        refute logged_in?(old, "1")
      end

      test "does not find PowRedisCache's keys with atoms on Erlang/OTP 25", context do
        {new, old} = servers(context, 25)
        put(new, @user, %{id: 1})
        assert get(old, @user) == :not_found
        put(new, ["token", 1], :ours)
        assert get(old, ["token", 1]) == :ours
      end

      test "old servers on Erlang/OTP 25 ask for another login", context do
        {new, old} = servers(context, 25)
        login(new, "1")
        assert logged_in?(new, "1")
        refute logged_in?(old, "1")
      end

      test "switching all servers at once keeps everyone logged in", context do
        {new, old} = servers(context, 25)
        login(old, "1")
        login(old, "2")
        assert logged_in?(new, "1")
        assert sessions(new) == ["1", "2"]
        renew(new, "1", "3")
        assert logged_in?(new, "3")
        logout(new, "2")
        refute logged_in?(new, "1") or logged_in?(new, "2")
        assert sessions(new) == ["3"]
      end

      test "an Erlang/OTP upgrade without PowRedisCache logs everyone out", context do
        {_new, old} = servers(context, 25)
        {_new, upgraded} = servers(context, 26)
        login(old, "1")
        assert logged_in?(old, "1")
        refute logged_in?(upgraded, "1")
      end

      test "a reindex cannot be undone on Erlang/OTP 25", context do
        {new, old} = servers(context, 25)
        login(old, "1")
        assert %{renamed: 2} = PowRedisCache.reindex(name: context.name)
        assert logged_in?(new, "1")
        refute logged_in?(old, "1")
      end
    end
  end

  test "both versions find reindexed sessions", context do
    for version <- [1, 2] do
      {_new, old} = servers(Map.put(context, :version, version), 25)
      {new, upgraded} = servers(Map.put(context, :version, version), 26)
      session = "of v#{version}"
      login(old, session)
      PowRedisCache.reindex(name: context.name)
      assert logged_in?(upgraded, session)
      assert session in sessions(upgraded)
      assert session in sessions(new)
    end
  end

  @tag version: 1
  test "v1 ignores index sets", context do
    {new, old} = servers(context, 26)
    login(old, "1")
    login(new, "2")
    for server <- [new, old], session <- ["1", "2"], do: assert(logged_in?(server, session))
    assert sessions(old) == ["1", "2"]
    assert sessions(new) == ["2"]
  end

  test "v2 shortens the TTL of index sets", context do
    %{config: config, pow_store: pow_store, namespace: ns, client: client} = context
    PowRedisCache.put(config, {["a", "long"], 1})
    PowGuideStore.put(pow_store, [ns, "a", "short"], 2, 200)
    set = PowGuideStore.index_set(pow_store, [ns, "a"])
    Wait.until(fn -> RedisClient.command!(client, ["EXISTS", set]) == 0 end)

    assert PowRedisCache.all(config, ["a", :_]) == []
    assert PowRedisCache.get(config, ["a", "long"]) == 1
    PowRedisCache.reindex(name: context.name)
    assert PowRedisCache.all(config, ["a", :_]) == [{["a", "long"], 1}]
  end

  describe "from Mnesia, with the guide's session store" do
    test "a session in Mnesia alone is found and copied to Redis", context do
      %{config: config, session_store: session_store} = context
      MnesiaStub.put(config, {session_key("1"), :theirs})
      assert session_store.get(config, session_key("1")) == :theirs
      assert PowRedisCache.get(config, session_key("1")) == :theirs
      assert session_store.get(config, "unknown") == :not_found

      # From then on, Redis takes precedence.
      PowRedisCache.put(config, {session_key("1"), :ours})
      assert session_store.get(config, session_key("1")) == :ours
    end

    test "all/2 merges both stores and lists each key once", %{
      config: config,
      session_store: session_store
    } do
      MnesiaStub.put(config, [{["u", 1], :old}, {["u", 2], :old}, {["u", 3, 4], :old}])
      PowRedisCache.put(config, [{["u", 2], :new}, {["u", 0], :new}])
      expected = [{["u", 0], :new}, {["u", 1], :old}, {["u", 2], :new}]
      assert session_store.all(config, ["u", :_]) == expected
    end

    test "a logout deletes the session from both stores", %{
      config: config,
      session_store: session_store
    } do
      MnesiaStub.put(config, [{"moved", 1}, {"not moved", 2}])
      assert session_store.get(config, "moved") == 1

      for key <- ["moved", "not moved"] do
        assert session_store.delete(config, key) == :ok
        assert session_store.get(config, key) == :not_found
        assert MnesiaStub.get(config, key) == :not_found
        assert PowRedisCache.get(config, key) == :not_found
      end
    end

    test "a logout during the copy is not undone", %{config: config, session_store: session_store} do
      MnesiaStub.put(config, {"s", 1})
      Process.put(:after_get, fn -> session_store.delete(config, "s") end)
      assert session_store.get(config, "s") == :not_found
      assert PowRedisCache.get(config, "s") == :not_found
    end

    test "a write during the copy is not lost", %{config: config, session_store: session_store} do
      MnesiaStub.put(config, {"s", :older})
      Process.put(:after_get, fn -> session_store.put(config, {"s", :newer}) end)
      assert session_store.get(config, "s") == :newer
      assert PowRedisCache.get(config, "s") == :newer
    end

    test "Mnesia gets all writes for a rollback", context do
      %{config: config, session_store: session_store} = context
      assert session_store.put(config, [{"1", 1}, {["u", 1], 2}]) == :ok
      assert MnesiaStub.get(config, "1") == 1
      assert MnesiaStub.all(config, ["u", :_]) == [{["u", 1], 2}]
      assert PowRedisCache.all(config, ["u", :_]) == [{["u", 1], 2}]
    end

    test "a copied session starts its full TTL once", context do
      %{
        config: config,
        session_store: session_store,
        client: client,
        pow_store: pow_store,
        namespace: ns
      } = context

      MnesiaStub.put(config, {"s", 1})
      session_store.get(config, "s")
      ttl = RedisClient.command!(client, ["PTTL", PowGuideStore.path(pow_store, [ns, "s"])])
      assert ttl in (config[:ttl] - 10_000)..config[:ttl]
      # Another read does not extend it.
      RedisClient.command!(client, ["PEXPIRE", PowGuideStore.path(pow_store, [ns, "s"]), 10_000])
      session_store.get(config, "s")

      assert RedisClient.command!(client, ["PTTL", PowGuideStore.path(pow_store, [ns, "s"])]) <=
               10_000
    end

    test "a logout on a server without the session store does not reach Redis", context do
      %{config: config, session_store: session_store} = context
      MnesiaStub.put(config, {"s", 1})
      session_store.get(config, "s")
      MnesiaStub.delete(config, "s")
      assert session_store.get(config, "s") == 1
    end
  end

  defp snippets, do: for([_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, @guide), do: code)
end
