defmodule PowRedisCache.SessionsTest do
  # With Pow, or where it is not available, with the modules that stand in for it.
  use PowRedisCache.Case, async: true

  defmodule Backend do
    use PowRedisCache
  end

  @moduletag :integration
  @moduletag instance: [name: Backend, index: :sessions]

  alias Pow.Store.CredentialsCache
  alias PowPersistentSession.Store.PersistentSessionCache
  alias PowRedisCache.{PersistentSessionStore, PowDevice, Sessions}
  alias PowRedisCache.PowDevice.{User, Users}

  defmodule Endpoint do
    def broadcast(topic, event, payload), do: send(self(), {topic, event, payload})
  end

  setup context do
    # The namespaces of the test keep it apart from others on the same server.
    pow = pow_config(context, persistent_session_store: {PersistentSessionStore, store(context)})
    [pow: pow, user: Users.get_by(id: System.unique_integer([:positive]))]
  end

  describe "list" do
    test "returns the sessions of a user on all devices, and of no other user", context do
      %{user: user} = context
      laptop = log_in(context, user)
      phone = log_in(context, user, keep: true)
      other = log_in(context, %User{id: user.id + 1_000_000})

      conn = conn(laptop)
      assert [phone_session, laptop_session] = Sessions.list(user, conn: conn)
      assert laptop_session.current? and not phone_session.current?
      assert phone_session.persistent? and not laptop_session.persistent?
      assert laptop_session.fingerprint == fingerprint(laptop)
      assert phone_session.fingerprint == fingerprint(phone)
      assert [session] = Sessions.list(%User{id: user.id + 1_000_000}, conn: conn)
      assert session.fingerprint == fingerprint(other)
      refute session.current?
    end

    test "works without a conn", %{user: user} = context do
      log_in(context, user)
      # The configuration of an app comes from its environment.
      app = :"app#{System.unique_integer([:positive])}"
      Application.put_env(app, :pow, context.pow)
      on_exit(fn -> Application.delete_env(app, :pow) end)
      assert [%{current?: false}] = Sessions.list(user, otp_app: app)
      assert [%{current?: false}] = Sessions.list(user, context.pow)

      assert Sessions.list(user,
               otp_app: app,
               credentials_cache_store: {CredentialsCache, namespace: "none"}
             ) == []
    end

    test "returns when a session began and when it was renewed", %{user: user} = context do
      before = DateTime.utc_now()
      device = log_in(context, user)
      assert [session] = Sessions.list(user, conn: conn(device))
      assert within?(session.began_at, before, DateTime.utc_now())

      # Due at once, whenever it was renewed.
      device = due(device)
      later = DateTime.utc_now()
      {_user, device} = PowDevice.visit(device)
      assert [renewed] = Sessions.list(user, conn: conn(device))
      assert renewed.id != session.id
      assert renewed.fingerprint == session.fingerprint
      assert renewed.began_at == session.began_at
      assert within?(renewed.renewed_at, later, DateTime.utc_now())
    end

    test "returns the metadata that the app has put into the session", %{user: user} = context do
      {_conn, device} =
        PowDevice.request(PowDevice.new(context.pow), fn conn ->
          metadata = Keyword.put(conn.private.pow_session_metadata, :user_agent, "Firefox")
          conn |> Plug.Conn.put_private(:pow_session_metadata, metadata) |> Pow.Plug.create(user)
        end)

      assert [%{metadata: [user_agent: "Firefox"]}] = Sessions.list(user, conn: conn(device))
    end

    test "is empty for a user without sessions", %{user: user} = context do
      assert Sessions.list(user, conn: conn(PowDevice.new(context.pow))) == []
    end

    test "shows neither ids nor metadata when inspected", %{user: user} = context do
      device = log_in(context, user)
      [session] = Sessions.list(user, conn: conn(device))
      refute inspect(session) =~ session.id
    end
  end

  describe "log_out" do
    test "ends the session of one device, and its persistent session", %{user: user} = context do
      laptop = log_in(context, user, keep: true)
      phone = log_in(context, user, keep: true)
      conn = conn(laptop)
      assert Sessions.log_out(user, fingerprint(phone), conn: conn) == :ok
      assert logged_in(laptop) == user.id
      refute logged_in(phone)
      assert logged_in(without_session(laptop)) == user.id
      refute logged_in(without_session(phone))
    end

    test "takes a session of the list, or an id", %{user: user} = context do
      for identify <- [& &1, & &1.id] do
        device = log_in(context, user)
        conn = conn(device)
        [session] = Sessions.list(user, conn: conn)
        assert Sessions.log_out(user, identify.(session), conn: conn) == :ok
        refute logged_in(device)
      end
    end

    test "ends no session of another user", %{user: user} = context do
      other = %User{id: user.id + 1_000_000}
      device = log_in(context, other, keep: true)
      conn = conn(device)
      [session] = Sessions.list(other, conn: conn)

      for session <- [session, session.id, session.fingerprint] do
        assert Sessions.log_out(user, session, conn: conn) == :ok
        assert logged_in(device) == other.id
      end
    end

    test "ends a persistent session whose session has expired", %{user: user} = context do
      device = log_in(context, user, keep: true)
      fingerprint = fingerprint(device)
      assert Sessions.log_out(user, fingerprint, conn: conn(PowDevice.new(context.pow))) == :ok
      refute logged_in(without_session(device))
    end

    test "ends sessions without a fingerprint by their id", %{user: user} = context do
      {store, store_config} = Pow.Plug.Base.store(context.pow)
      now = System.os_time(:millisecond)
      store.put(store_config, "before fingerprints", {user, inserted_at: now})
      conn = conn(PowDevice.new(context.pow))
      assert [%{fingerprint: nil} = session] = Sessions.list(user, conn: conn)
      assert Sessions.log_out(user, session, conn: conn) == :ok
      assert Sessions.list(user, conn: conn) == []
    end
  end

  describe "log_out_others" do
    test "leaves the session of the conn", %{user: user} = context do
      laptop = log_in(context, user, keep: true)
      phone = log_in(context, user, keep: true)
      other = log_in(context, %User{id: user.id + 1_000_000}, keep: true)
      assert Sessions.log_out_others(conn(laptop)) == :ok
      assert logged_in(laptop) == user.id
      assert logged_in(other) == user.id + 1_000_000
      refute logged_in(phone)
      refute logged_in(without_session(phone))
      assert logged_in(without_session(laptop)) == user.id
    end

    test "needs a conn on which a user is logged in", context do
      assert_raise ArgumentError,
                   "expected a conn on which a user is logged in. Call it after Pow.Plug.Session",
                   fn -> Sessions.log_out_others(conn(PowDevice.new(context.pow))) end
    end
  end

  describe "log_out_everywhere" do
    test "ends the sessions and persistent sessions of the user only", %{user: user} = context do
      devices = for keep <- [true, true, false], do: log_in(context, user, keep: keep)
      other = log_in(context, %User{id: user.id + 1_000_000}, keep: true)
      assert Sessions.log_out_everywhere(user, conn: conn(hd(devices))) == :ok

      for device <- devices do
        refute logged_in(device)
        refute logged_in(without_session(device))
      end

      assert logged_in(other) == user.id + 1_000_000
      assert logged_in(without_session(other)) == user.id + 1_000_000
    end

    test "finds the tokens that Pow's own store has written", %{user: user} = context do
      own = {PersistentSessionCache, store(context)}
      before = Keyword.put(context.pow, :persistent_session_store, own)
      device = log_in(%{context | pow: before}, user, keep: true)
      other = log_in(%{context | pow: before}, %User{id: user.id + 1_000_000}, keep: true)

      # Pow's store before and after: all tokens are read.
      for pow <- [before, context.pow] do
        device = log_in(%{context | pow: pow}, user, keep: true)
        assert Sessions.log_out_everywhere(user, conn: conn(device)) == :ok
        refute logged_in(without_session(device))
      end

      refute logged_in(without_session(device))
      assert logged_in(without_session(other)) == user.id + 1_000_000
    end

    test "honours the stores of the app", %{user: user} = context do
      sessions = "own sessions #{context.namespace}"
      store = {CredentialsCache, namespace: sessions, ttl: 60_000, backend: Backend}
      pow = Keyword.put(context.pow, :credentials_cache_store, store)
      device = log_in(%{context | pow: pow}, user)
      assert [_session] = Sessions.list(user, conn: conn(device))
      # In the other namespace, there is none.
      assert Sessions.list(user, conn: conn(PowDevice.new(context.pow))) == []
      assert Sessions.log_out_everywhere(user, conn: conn(device)) == :ok
      refute logged_in(device)
    end
  end

  test "tokens are those of the plug's own configuration", %{user: user} = context do
    options = [
      persistent_session_store: {PersistentSessionCache, namespace: context.namespace <> "own"}
    ]

    device =
      context.pow
      |> Keyword.delete(:persistent_session_store)
      |> PowDevice.new(options)
      |> PowDevice.log_in(user, keep: true)

    assert [%{persistent?: true}] = Sessions.list(user, conn: conn(device))
    assert Sessions.log_out_everywhere(user, conn: conn(device)) == :ok
    refute logged_in(without_session(device))
  end

  describe "LiveViews" do
    test "of a session that ends are disconnected", %{user: user} = context do
      laptop = log_in(context, user)
      phone = log_in(context, user)
      {_user, laptop} = PowDevice.visit(laptop)
      id = PowDevice.plug_session(laptop)["live_socket_id"]
      assert id == Sessions.live_socket_id(fingerprint(laptop))
      refute id =~ fingerprint(laptop)

      conn = conn(phone)
      assert Sessions.log_out_others(conn, endpoint: Endpoint) == :ok
      assert_received {^id, "disconnect", %{}}
      refute_received {_topic, "disconnect", %{}}

      # The endpoint of Phoenix's conns is known.
      conn = Plug.Conn.put_private(conn, :phoenix_endpoint, Endpoint)
      phone_id = Sessions.live_socket_id(fingerprint(phone))
      assert Sessions.log_out_everywhere(user, conn: conn) == :ok
      assert_received {^phone_id, "disconnect", %{}}
    end

    test "are disconnected if only the persistent session is left", %{user: user} = context do
      device = log_in(context, user, keep: true)
      id = Sessions.live_socket_id(fingerprint(device))
      {store, store_config} = Pow.Plug.Base.store(device.config)
      for session <- store.sessions(store_config, user), do: store.delete(store_config, session)
      conn = conn(PowDevice.new(context.pow))
      assert Sessions.log_out_everywhere(user, conn: conn, endpoint: Endpoint) == :ok
      assert_received {^id, "disconnect", %{}}
      refute_received {_topic, "disconnect", %{}}
    end

    test "are disconnected when the user logs out", %{user: user} = context do
      {_user, device} = context |> log_in(user, keep: true) |> PowDevice.visit()
      {_user, other} = context |> log_in(user) |> PowDevice.visit()
      id = PowDevice.plug_session(device)["live_socket_id"]

      {_conn, device} =
        PowDevice.request(device, fn conn ->
          conn |> Plug.Conn.put_private(:phoenix_endpoint, Endpoint) |> Pow.Plug.delete()
        end)

      assert_received {^id, "disconnect", %{}}
      refute PowDevice.plug_session(device)["live_socket_id"]
      # The persistent session ends as well.
      refute logged_in(device)
      assert logged_in(other) == user.id
    end
  end

  @tag server: [], instance: [name: Backend, on_error: :miss, timeout: 5_000]
  test "logging out raises while Redis is away, also with on_error: :miss", context do
    %{user: user, server: server} = context
    conn = context |> log_in(user) |> conn()
    RedisServer.stop(server)

    assert_raise PowRedisCache.Error, fn -> Sessions.log_out_everywhere(user, conn: conn) end
    assert_raise PowRedisCache.Error, fn -> Sessions.log_out_others(conn) end
    assert_raise PowRedisCache.Error, fn -> Sessions.log_out(user, "device", conn: conn) end
    # Elsewhere, a failed read is a miss.
    assert Sessions.list(user, conn: conn) == []
  end

  test "a page that changes nothing sets no cookie", %{user: user} = context do
    {_user, device} = context |> log_in(user) |> PowDevice.visit()
    {conn, _device} = PowDevice.request(device, & &1)
    assert conn.resp_cookies == %{}
    {conn, _device} = PowDevice.request(PowDevice.new(context.pow), & &1)
    assert conn.resp_cookies == %{}
  end

  defp pow_config(context, options) do
    Keyword.merge(
      [
        cache_store_backend: Backend,
        credentials_cache_store: {CredentialsCache, namespace: context.namespace}
      ],
      options
    )
  end

  defp store(context), do: [namespace: context.namespace <> "tokens"]

  defp log_in(context, user, options \\ []),
    do: context.pow |> PowDevice.new() |> PowDevice.log_in(user, options)

  # A conn of the device that has passed through Pow's plugs, and has not been sent.
  defp conn(device), do: PowDevice.passed(device)

  defp logged_in(device) do
    {user, _device} = PowDevice.visit(device)
    user && user.id
  end

  defp fingerprint(device), do: conn(device).private.pow_session_metadata[:fingerprint]

  # As after the session has expired.
  defp without_session(device), do: PowDevice.without_session(device)

  defp due(device), do: %{device | config: Keyword.put(device.config, :session_ttl_renewal, -1)}

  defp within?(time, from, to) do
    from = DateTime.add(from, -1, :millisecond)
    DateTime.compare(time, from) != :lt and DateTime.compare(time, to) != :gt
  end
end
