if Code.ensure_loaded?(Pow.Plug.Base) do
  defmodule PowRedisCache.Sessions do
    @moduledoc """
    The sessions of a user on all devices: lists them and logs them out.

        alias PowRedisCache.Sessions

        Sessions.list(user, conn: conn)
        Sessions.log_out(user, fingerprint, conn: conn, endpoint: MyAppWeb.Endpoint)
        conn = Sessions.log_out_others(conn, endpoint: MyAppWeb.Endpoint)
        Sessions.log_out_everywhere(user, otp_app: :my_app, endpoint: MyAppWeb.Endpoint)

    A session is a login on a device. Its fingerprint stays the same when Pow renews it, and the persistent
    session ("Keep me logged in") that belongs to it has the same. Logging out ends both.

    Options:

      * `:conn` - a conn that has passed through `Pow.Plug.Session`, whose configuration of Pow is used;
      * `:otp_app` - the app whose configuration of Pow is used without a conn;
      * `:endpoint` - the app's endpoint. LiveViews of the sessions are disconnected, if
        `live_socket_id/1` is put into the session of Plug.

    The stores, namespaces and TTLs are those of Pow's configuration. The tokens of a user are found in one
    lookup with `PowRedisCache.PersistentSessionStore`, and otherwise among the tokens of all users.
    """

    alias PowPersistentSession.Plug.Base, as: PersistentSession
    alias PowRedisCache.PersistentSessionStore
    alias PowRedisCache.Sessions.Session
    alias PowRedisCache.UserKey

    @doc "Returns the sessions of a user, the one renewed last first."
    @spec list(map(), keyword()) :: [Session.t()]
    def list(user, options) do
      persistent = for {_token, fingerprint} <- tokens(user, options), do: fingerprint
      current = current_fingerprint(options[:conn])

      user
      |> sessions(options)
      |> Enum.map(fn {id, metadata} ->
        fingerprint = metadata[:fingerprint]

        %Session{
          id: id,
          fingerprint: fingerprint,
          began_at: metadata[:first_seen_at],
          renewed_at: DateTime.from_unix!(metadata[:inserted_at], :millisecond),
          metadata: Keyword.drop(metadata, [:fingerprint, :inserted_at]),
          current?: fingerprint != nil and fingerprint == current,
          persistent?: fingerprint != nil and fingerprint in persistent
        }
      end)
      |> Enum.sort_by(& &1.renewed_at, {:desc, DateTime})
    end

    @doc """
    Logs a user out on one device. `session` is a session of `list/2`, or its fingerprint or id. Sessions of
    other users are never logged out.
    """
    @spec log_out(map(), Session.t() | binary(), keyword()) :: :ok
    def log_out(user, %Session{fingerprint: nil, id: id}, options), do: log_out(user, id, options)

    def log_out(user, %Session{fingerprint: fingerprint}, options),
      do: log_out(user, fingerprint, options)

    def log_out(user, session, options) when is_binary(session) do
      log_out_those(user, options, fn id, fingerprint -> session in [id, fingerprint] end)
    end

    @doc "Logs the user of a conn out on all other devices."
    @spec log_out_others(Plug.Conn.t(), keyword()) :: :ok
    def log_out_others(conn, options \\ []) do
      options = Keyword.put(options, :conn, conn)

      current =
        current_fingerprint(conn) || raise ArgumentError, "expected a conn with a session of Pow"

      user = Pow.Plug.current_user(conn)
      log_out_those(user, options, fn _id, fingerprint -> fingerprint != current end)
    end

    @doc """
    Logs a user out on every device. On a page, delete the session of the request too, which may be about to
    be renewed: `Pow.Plug.delete(conn)`.
    """
    @spec log_out_everywhere(map(), keyword()) :: :ok
    def log_out_everywhere(user, options) do
      log_out_those(user, options, fn _id, _fingerprint -> true end)
    end

    @doc "What `live_socket_id` in the session of Plug has to be, so that LiveViews are disconnected."
    @spec live_socket_id(binary()) :: binary()
    def live_socket_id(fingerprint) when is_binary(fingerprint) do
      "pow_redis_cache_session:" <>
        Base.url_encode64(:crypto.hash(:sha256, fingerprint), padding: false)
    end

    # Tokens first: a device that has one gets a new session for it.
    defp log_out_those(user, options, ends?) do
      ended =
        for {id, metadata} <- sessions(user, options),
            ends?.(id, metadata[:fingerprint]),
            do: {id, metadata}

      fingerprints = for {_id, metadata} <- ended, do: metadata[:fingerprint]

      for {token, fingerprint} <- tokens(user, options),
          fingerprint in fingerprints or ends?.(nil, fingerprint),
          do: delete_token(token, options)

      {store, store_config} = Pow.Plug.Base.store(pow_config(options))
      for {id, _metadata} <- ended, do: store.delete(store_config, id)
      disconnect(fingerprints, options[:endpoint])
    end

    defp sessions(user, options) do
      {store, store_config} = Pow.Plug.Base.store(pow_config(options))

      for id <- store.sessions(store_config, user),
          {_user, metadata} when is_list(metadata) <- [store.get(store_config, id)],
          do: {id, metadata}
    end

    # The tokens of a user, each with the fingerprint of its session, or `nil`.
    defp tokens(user, options) do
      {store, store_config} = PersistentSession.store(pow_config(options))

      if store == PersistentSessionStore and store.indexed?(store_config) do
        store.tokens(store_config, user)
      else
        parts = UserKey.parts(user, store_config)

        for {token, {%_{} = owner, metadata}} when is_binary(token) <-
              store.all(store_config, [:_]),
            UserKey.parts(owner, store_config) == parts,
            do: {token, get_in(metadata, [:session_metadata, :fingerprint])}
      end
    end

    defp delete_token(token, options) do
      {store, store_config} = PersistentSession.store(pow_config(options))
      store.delete(store_config, token)
    end

    defp pow_config(options) do
      case options[:conn] do
        nil -> Keyword.take(options, [:otp_app])
        conn -> Pow.Plug.fetch_config(conn)
      end
    end

    defp current_fingerprint(nil), do: nil
    defp current_fingerprint(conn), do: conn.private[:pow_session_metadata][:fingerprint]

    defp disconnect(_fingerprints, nil), do: :ok

    defp disconnect(fingerprints, endpoint) do
      for fingerprint <- fingerprints,
          fingerprint != nil,
          do: endpoint.broadcast(live_socket_id(fingerprint), "disconnect", %{})

      :ok
    end
  end
end
