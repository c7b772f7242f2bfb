defmodule PowRedisCache.MigratingTest do
  # What guides/migrating.md says, as far as no other test says it.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureIO

  alias PowRedisCache.MnesiaStub

  @moduletag server: []

  @guide_file Path.expand("../../guides/migrating.md", __DIR__)
  @guide File.read!(@guide_file)

  @user [MyApp.User, :user, 1]
  @ttl 600_000

  setup_all do
    MnesiaStub.new()
    code = Enum.find(snippets(), &(&1 =~ "defmodule MyApp.SessionStore"))
    old = "alias Pow.Store.Backend.MnesiaCache\n"
    assert code =~ old
    code = String.replace(code, old, "alias #{inspect(MnesiaStub)}, as: MnesiaCache\n")
    # Pow's behaviour may be missing here, of which the compiler warns.
    capture_io(:stderr, fn -> Code.compile_string(code, @guide_file) end)
    [store: MyApp.SessionStore]
  end

  describe "the guide" do
    test "names a test for each claim" do
      rows = for "| " <> row <- String.split(@guide, "\n"), not (row =~ ~r/^when \|/), do: row
      assert length(rows) > 20

      for row <- rows do
        assert [_, file, title] = Regex.run(~r/ `(test\/[\w\/.]+_test\.exs)`: ([^|]+) \|$/, row),
               row

        source = File.read!(Path.expand("../../#{file}", __DIR__))
        assert source =~ ~s(test "#{title}"), row
      end
    end

    test "shows code that is Elixir" do
      for code <- snippets(), do: assert({:ok, _} = Code.string_to_quoted(code))
    end

    test "points at files that are there" do
      for [_, link] <- Regex.scan(~r/\]\(([^)#]+)\)/, @guide) do
        assert File.regular?(Path.expand(link, Path.dirname(@guide_file))), link
      end
    end
  end

  # A server of the app is `{:ours, config}`, or `{:pasted, guide, namespace}`. What a login and a
  # logout write is what Pow's CredentialsCache does.

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

  defp put({:ours, config}, key, value), do: PowRedisCache.put(config, {key, value})

  defp put({:pasted, guide, ns}, key, value),
    do: PowGuideStore.put(guide, [ns | wrap(key)], value, @ttl)

  defp get({:ours, config}, key), do: PowRedisCache.get(config, key)
  defp get({:pasted, guide, ns}, key), do: PowGuideStore.get(guide, [ns | wrap(key)])

  defp delete({:ours, config}, key), do: PowRedisCache.delete(config, key)
  defp delete({:pasted, guide, ns}, key), do: PowGuideStore.delete(guide, [ns | wrap(key)])

  defp sessions({:ours, config}) do
    for {key, _at} <- PowRedisCache.all(config, session_key(:_)), do: List.last(key)
  end

  defp sessions({:pasted, guide, ns}) do
    found = PowGuideStore.all(guide, [ns | @user] ++ [:session], 1)
    found |> Enum.map(fn {key, _at} -> List.last(key) end) |> Enum.sort()
  end

  defp wrap(key), do: List.wrap(key)

  defp servers(context, otp) do
    guide = %{context.guide | edition: context[:edition] || :current, otp: otp}
    {{:ours, context.config}, {:pasted, guide, context.namespace}}
  end

  for edition <- [:first, :current] do
    describe "from the #{edition} edition" do
      @describetag edition: edition, instance: [index: edition == :current]

      test "a rolling deploy logs nobody out", context do
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

      test "a roll-back logs nobody out", context do
        {new, old} = servers(context, 26)
        login(new, "1")
        assert logged_in?(old, "1")
        assert sessions(old) == ["1"]
        renew(old, "1", "2")
        assert logged_in?(old, "2")
        refute logged_in?(old, "1")
      end

      test "does not find our keys with atoms", context do
        {new, old} = servers(context, 25)
        put(new, @user, %{id: 1})
        assert get(old, @user) == :not_found
        put(new, ["token", 1], :ours)
        assert get(old, ["token", 1]) == :ours
      end

      test "old servers ask again for a login", context do
        {new, old} = servers(context, 25)
        login(new, "1")
        assert logged_in?(new, "1")
        refute logged_in?(old, "1")
      end

      test "switching all servers at once logs nobody out", context do
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

      test "with the pasted module, an upgrade logs everybody out", context do
        {_new, old} = servers(context, 25)
        {_new, upgraded} = servers(context, 26)
        login(old, "1")
        assert logged_in?(old, "1")
        refute logged_in?(upgraded, "1")
      end

      test "on Erlang/OTP 25 a reindex can't be undone", context do
        {new, old} = servers(context, 25)
        login(old, "1")
        assert %{renamed: 2} = PowRedisCache.reindex(name: context.name)
        assert logged_in?(new, "1")
        refute logged_in?(old, "1")
      end
    end
  end

  test "either edition finds what was reindexed", context do
    for edition <- [:first, :current] do
      {_new, old} = servers(Map.put(context, :edition, edition), 25)
      {new, upgraded} = servers(Map.put(context, :edition, edition), 26)
      session = "of #{edition}"
      login(old, session)
      PowRedisCache.reindex(name: context.name)
      assert logged_in?(upgraded, session)
      assert session in sessions(upgraded)
      assert session in sessions(new)
    end
  end

  @tag edition: :first
  test "index sets are no hindrance to the first edition", context do
    {new, old} = servers(context, 26)
    login(old, "1")
    login(new, "2")
    for server <- [new, old], session <- ["1", "2"], do: assert(logged_in?(server, session))
    assert sessions(old) == ["1", "2"]
    assert sessions(new) == ["2"]
  end

  test "the current edition shortens the life of index sets", context do
    %{config: config, guide: guide, namespace: ns, client: client} = context
    PowRedisCache.put(config, {["a", "long"], 1})
    PowGuideStore.put(guide, [ns, "a", "short"], 2, 200)
    set = PowGuideStore.index_set(guide, [ns, "a"])
    Wait.until(fn -> RedisClient.command!(client, ["EXISTS", set]) == 0 end)

    assert PowRedisCache.all(config, ["a", :_]) == []
    assert PowRedisCache.get(config, ["a", "long"]) == 1
    PowRedisCache.reindex(name: context.name)
    assert PowRedisCache.all(config, ["a", :_]) == [{["a", "long"], 1}]
  end

  describe "from another store, with the module of the guide" do
    test "what is in the old store alone is found and moved", context do
      %{config: config, store: store} = context
      MnesiaStub.put(config, {session_key("1"), :theirs})
      assert store.get(config, session_key("1")) == :theirs
      assert PowRedisCache.get(config, session_key("1")) == :theirs
      assert store.get(config, "unknown") == :not_found

      # Once it is there, it is Redis that counts.
      PowRedisCache.put(config, {session_key("1"), :ours})
      assert store.get(config, session_key("1")) == :ours
    end

    test "both stores are listed, each key once", %{config: config, store: store} do
      MnesiaStub.put(config, [{["u", 1], :old}, {["u", 2], :old}, {["u", 3, 4], :old}])
      PowRedisCache.put(config, [{["u", 2], :new}, {["u", 0], :new}])
      expected = [{["u", 0], :new}, {["u", 1], :old}, {["u", 2], :new}]
      assert store.all(config, ["u", :_]) == expected
    end

    test "a logout is one in both stores", %{config: config, store: store} do
      MnesiaStub.put(config, [{"moved", 1}, {"not moved", 2}])
      assert store.get(config, "moved") == 1

      for key <- ["moved", "not moved"] do
        assert store.delete(config, key) == :ok
        assert store.get(config, key) == :not_found
        assert MnesiaStub.get(config, key) == :not_found
        assert PowRedisCache.get(config, key) == :not_found
      end
    end

    test "a logout while a session is moved is not undone", %{config: config, store: store} do
      MnesiaStub.put(config, {"s", 1})
      Process.put(:after_get, fn -> store.delete(config, "s") end)
      assert store.get(config, "s") == :not_found
      assert PowRedisCache.get(config, "s") == :not_found
    end

    test "a write while a session is moved is not lost", %{config: config, store: store} do
      MnesiaStub.put(config, {"s", :older})
      Process.put(:after_get, fn -> store.put(config, {"s", :newer}) end)
      assert store.get(config, "s") == :newer
      assert PowRedisCache.get(config, "s") == :newer
    end

    test "going back to the old store finds what was written meanwhile", context do
      %{config: config, store: store} = context
      assert store.put(config, [{"1", 1}, {["u", 1], 2}]) == :ok
      assert MnesiaStub.get(config, "1") == 1
      assert MnesiaStub.all(config, ["u", :_]) == [{["u", 1], 2}]
      assert PowRedisCache.all(config, ["u", :_]) == [{["u", 1], 2}]
    end

    test "what is moved lives for its whole ttl again", context do
      %{config: config, store: store, client: client, guide: guide, namespace: ns} = context
      MnesiaStub.put(config, {"s", 1})
      store.get(config, "s")
      life = RedisClient.command!(client, ["PTTL", PowGuideStore.path(guide, [ns, "s"])])
      assert life in (config[:ttl] - 10_000)..config[:ttl]
      # Not once more when it is read again.
      RedisClient.command!(client, ["PEXPIRE", PowGuideStore.path(guide, [ns, "s"]), 10_000])
      store.get(config, "s")

      assert RedisClient.command!(client, ["PTTL", PowGuideStore.path(guide, [ns, "s"])]) <=
               10_000
    end

    test "a logout on a server without the module does not reach Redis", context do
      %{config: config, store: store} = context
      MnesiaStub.put(config, {"s", 1})
      store.get(config, "s")
      MnesiaStub.delete(config, "s")
      assert store.get(config, "s") == 1
    end
  end

  defp snippets, do: for([_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, @guide), do: code)
end
