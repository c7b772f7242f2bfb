defmodule PowRedisCache.PersistentSessionStoreTest do
  # With Pow, or where it is not available, with the modules that stand in for it.
  use PowRedisCache.Case, async: true

  defmodule Backend do
    use PowRedisCache
  end

  @moduletag :integration
  @moduletag instance: [name: Backend]

  import ExUnit.CaptureIO

  alias Mix.Tasks.PowRedisCache.IndexTokens
  alias PowPersistentSession.Store.PersistentSessionCache
  alias PowRedisCache.PersistentSessionStore, as: Store
  alias PowRedisCache.PowDevice.{User, Users}

  setup context do
    pow_config = [user: User, users_context: Users]

    config = [
      backend: Backend,
      namespace: context.namespace,
      ttl: :timer.hours(1),
      pow_config: pow_config
    ]

    # An app with the store in its environment.
    app = :"app#{System.unique_integer([:positive])}"
    stores = [persistent_session_store: {Store, config}]
    Application.put_env(app, :pow, [cache_store_backend: Backend] ++ pow_config ++ stores)
    on_exit(fn -> Application.delete_env(app, :pow) end)
    [store_config: config, app: app]
  end

  @metadata [session_metadata: [fingerprint: "device", began_at: 1]]

  test "stores values as Pow's own store does", %{store_config: config} do
    user = %User{id: 1, email: "user1@example.com"}
    Store.put(config, "token", {user, @metadata})
    assert PersistentSessionCache.get(config, "token") == {user, @metadata}
    PersistentSessionCache.put(config, "other", {user, @metadata})
    assert Store.get(config, "other") == {user, @metadata}
    assert Store.get(config, "none") == :not_found
    # The user is read again, and does not exist.
    Store.put(config, "gone", {%User{id: 404}, @metadata})
    assert Store.get(config, "gone") == nil
  end

  test "finds the tokens of a user, and of no other user", %{store_config: config} do
    for {token, id} <- [{"a", 1}, {"b", 1}, {"c", 11}],
        do: Store.put(config, token, {%User{id: id}, @metadata})

    Store.put(config, "d", {%User{id: 1}, []})

    assert Store.tokens(config, %User{id: 1}) |> Enum.sort() ==
             [{"a", "device"}, {"b", "device"}, {"d", nil}]

    assert Store.tokens(config, %User{id: 2}) == []
    assert Store.delete(config, "a") == :ok
    assert Store.get(config, "a") == :not_found
    assert Store.tokens(config, %User{id: 1}) |> Enum.sort() == [{"b", "device"}, {"d", nil}]
    assert Store.delete(config, "a") == :ok
  end

  test "leaves nothing behind when all tokens are deleted", context do
    %{store_config: config} = context
    for token <- ["a", "b"], do: Store.put(config, token, {%User{id: 1}, @metadata})
    for token <- ["a", "b"], do: Store.delete(config, token)
    assert Backend.all([namespace: context.namespace], [:_]) == []
    assert Backend.all([namespace: context.namespace], [:_, :_, :_, :_, :_]) == []
  end

  test "finds no token of which only the record is left", context do
    %{store_config: config} = context
    Store.put(config, "token", {%User{id: 1}, @metadata})
    Backend.delete([namespace: context.namespace], "token")
    assert Store.tokens(config, %User{id: 1}) == []
  end

  test "records expire with their tokens", context do
    %{store_config: config} = context
    Store.put(Keyword.put(config, :ttl, 50), "token", {%User{id: 1}, @metadata})
    key = [User, :user, 1, :token, "token"]
    Wait.until(fn -> Backend.get([namespace: context.namespace], key) == :not_found end)
  end

  describe "index_tokens" do
    test "adds what Pow's own store left out, once", context do
      %{store_config: config, app: app} = context

      # More than one page of them.
      for number <- 1..1_001 do
        user = %User{id: rem(number, 7)}
        PersistentSessionCache.put(config, "token#{number}", {user, @metadata})
      end

      Store.put(config, "new", {%User{id: 0}, @metadata})
      refute Store.indexed?(config)
      assert Store.tokens(config, %User{id: 0}) == [{"new", "device"}]

      test = self()
      progress = &send(test, {:progress, &1})
      assert Store.index_tokens(otp_app: app, progress: progress) == 1_002
      assert Store.indexed?(config)
      assert length(Store.tokens(config, %User{id: 0})) == 144
      assert length(Store.tokens(config, %User{id: 6})) == 143
      assert_received {:progress, %{keys: 500, fraction: half}}
      assert_in_delta half, 0.5, 0.01
      assert_received {:progress, %{keys: 1_002, fraction: 1.0}}

      assert Store.index_tokens(otp_app: app) == 1_002
      assert length(Store.tokens(config, %User{id: 0})) == 144
    end

    @tag :standalone
    test "may take longer than the timeout of the instance", context do
      %{store_config: config, app: app, server: server} = context
      PersistentSessionCache.put(config, "token", {%User{id: 1}, @metadata})
      stop_supervised!(Backend)
      url = RedisServer.url(server)
      start_supervised!({Backend, url: url, timeout: 1, index: true, seal: seal()})
      assert Store.index_tokens(otp_app: app) == 1
    end

    test "names what the configuration lacks", %{app: app} do
      Application.put_env(app, :pow, cache_store_backend: Backend)

      assert_raise ArgumentError,
                   "expected the configuration of Pow of #{inspect(app)} to have " <>
                     "persistent_session_store: {PowRedisCache.PersistentSessionStore, []}",
                   fn -> Store.index_tokens(otp_app: app) end
    end

    test "runs as a task", %{store_config: config, app: app} do
      PersistentSessionCache.put(config, "token", {%User{id: 1}, @metadata})
      output = capture_io(fn -> IndexTokens.run(["--otp-app", Atom.to_string(app)]) end)
      assert output =~ "Indexed 1 tokens"
      assert Store.tokens(config, %User{id: 1}) == [{"token", "device"}]

      assert_raise Mix.Error, ~r/expected only --otp-app APP/, fn ->
        IndexTokens.run(["--url", "redis://localhost"])
      end

      assert_raise Mix.Error, ~r/to have persistent_session_store:/, fn ->
        IndexTokens.run(["--otp-app", "no_such_app"])
      end
    end
  end
end
