if match?({:module, _}, Code.ensure_compiled(Pow.Plug)) do
  defmodule PowRedisCache.Plug.TrackSession do
    @moduledoc """
    A plug that records when a session began, and connects LiveViews with it.

        plug Pow.Plug.Session, otp_app: :my_app
        plug PowPersistentSession.Plug.Cookie
        plug PowRedisCache.Plug.TrackSession

    It comes after Pow's plugs, and

      * puts `:began_at` into the metadata of a session that begins, in milliseconds since 1970. Renewals and
        persistent sessions keep it. `PowRedisCache.Sessions.list/2` returns it;
      * puts `"live_socket_id"` into the session of Plug while a user is logged in, so that
        `PowRedisCache.Sessions` disconnects the LiveViews of a session that it ends;
      * ends the whole session when the user logs out: with its persistent session, renewals that are under
        way in other tabs, and LiveViews.

    Needs Phoenix only for LiveViews.
    """

    @behaviour Plug

    alias Plug.Conn
    alias PowRedisCache.Sessions

    @live_socket_id "live_socket_id"

    @impl true
    def init(options), do: options

    @impl true
    def call(conn, _options) do
      user = Pow.Plug.current_user(conn)

      conn
      |> put_began_at(user)
      |> Conn.register_before_send(&track(&1, user, Pow.Plug.current_user(&1)))
    end

    # A session that begins with this request takes its metadata from the conn when it is created.
    defp put_began_at(conn, nil) do
      now = System.os_time(:millisecond)

      conn
      |> update_private(:pow_session_metadata, &Keyword.put_new(&1, :began_at, now))
      |> update_private(:pow_persistent_session_metadata, fn metadata ->
        session_metadata =
          metadata |> Keyword.get(:session_metadata, []) |> Keyword.put_new(:began_at, now)

        Keyword.put(metadata, :session_metadata, session_metadata)
      end)
    end

    defp put_began_at(conn, _user), do: conn

    defp update_private(conn, key, update),
      do: Conn.put_private(conn, key, update.(conn.private[key] || []))

    defp track(conn, nil, nil), do: conn
    defp track(conn, user, nil), do: log_out(conn, user, fingerprint(conn))
    defp track(conn, _before, _user), do: put_live_socket_id(conn, fingerprint(conn))

    # Writes only what has changed: the response would otherwise set a cookie each time.
    defp put_live_socket_id(conn, nil), do: conn

    defp put_live_socket_id(conn, fingerprint) do
      conn = Conn.fetch_session(conn)
      id = Sessions.live_socket_id(fingerprint)

      if Conn.get_session(conn, @live_socket_id) == id,
        do: conn,
        else: Conn.put_session(conn, @live_socket_id, id)
    end

    defp log_out(conn, _user, nil), do: conn

    defp log_out(conn, user, fingerprint) do
      :ok = Sessions.log_out(user, fingerprint, conn: conn)
      conn |> Conn.fetch_session() |> Conn.delete_session(@live_socket_id)
    end

    defp fingerprint(conn), do: conn.private[:pow_session_metadata][:fingerprint]
  end
end
