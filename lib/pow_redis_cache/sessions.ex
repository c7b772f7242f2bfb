if match?({:module, _}, Code.ensure_compiled(Pow.Plug.Base)) do
  defmodule PowRedisCache.Sessions do
    @moduledoc """
    The sessions of a user on all devices: lists them and logs them out.

        alias PowRedisCache.Sessions

        Sessions.list(user, conn: conn)
        Sessions.log_out(user, fingerprint, conn: conn)
        Sessions.log_out_others(conn)
        Sessions.log_out_everywhere(user, otp_app: :my_app, endpoint: MyAppWeb.Endpoint)

    A session is a login on a device. Its fingerprint stays the same when Pow renews it, and the persistent
    session ("Keep me logged in") that belongs to it has the same. Logging out ends both.

    Options are Pow's configuration, such as `otp_app: :my_app`, which stands for that of the app, and

      * `:conn` - a conn that has passed through Pow's plugs, whose configuration is used.
      * `:endpoint` - the app's endpoint, by default that of the conn. LiveViews of the sessions are
        disconnected, if `PowRedisCache.Plug.TrackSession` is in use.

    The stores, namespaces and TTLs are those of Pow's configuration. With
    `PowRedisCache.PersistentSessionStore`, the tokens of a user are found in one lookup, and otherwise among
    the tokens of all users, which takes as long as reading them all.

    A request that is under way on another device may still renew its session after these functions have
    listed it. With `PowRedisCache.Plug.RenewalGrace`, the renewed session ends too.

    Logging out raises `PowRedisCache.Error` if Redis cannot be reached, also with `on_error: :miss`, and so
    does `list/2` without it.
    """

    alias PowPersistentSession.Plug.Base, as: PersistentSession
    alias PowRedisCache.{Call, PersistentSessionStore, Renewals, UserKey}
    alias PowRedisCache.Sessions.Session

    @doc """
    Returns the sessions of a user, the one renewed last first.

    `:current?` is true for the session of `:conn`. `:persistent?` is false for tokens that
    `PowRedisCache.PersistentSessionStore` has not indexed yet.
    """
    @spec list(map(), keyword()) :: [Session.t()]
    def list(user, options) do
      config = pow_config(options)
      current = current_fingerprint(options[:conn])
      tokens = listed_tokens(user, token_config(options))
      persistent = for {_token, fingerprint} <- tokens, do: fingerprint

      sessions =
        for {id, metadata} <- sessions(user, config),
            metadata != nil,
            do: Session.new(id, metadata, current, persistent)

      Enum.sort_by(sessions, & &1.renewed_at, {:desc, DateTime})
    end

    @doc """
    Logs a user out on one device. `session` is a session of `list/2`, or its fingerprint or id. Sessions of
    other users are never logged out.
    """
    @spec log_out(map(), Session.t() | binary(), keyword()) :: :ok
    def log_out(user, %Session{} = session, options),
      do: log_out(user, session.fingerprint || session.id, options)

    def log_out(user, session, options) when is_binary(session) do
      log_out_those(
        user,
        options,
        &Renewals.end_device(&1, user, session),
        fn id, fingerprint -> session in [id, fingerprint] end
      )
    end

    @doc """
    Logs the user of a conn out on all other devices.

    Raises `ArgumentError` if no user is logged in on the conn.
    """
    @spec log_out_others(Plug.Conn.t(), keyword()) :: :ok
    def log_out_others(conn, options \\ []) do
      user = Pow.Plug.current_user(conn)
      current = current_fingerprint(conn)

      if user == nil or current == nil do
        raise ArgumentError,
              "expected a conn on which a user is logged in. Call it after Pow.Plug.Session"
      end

      options = Keyword.put(options, :conn, conn)

      log_out_those(
        user,
        options,
        &Renewals.end_user(&1, user, current),
        fn _id, fingerprint -> fingerprint != current end
      )
    end

    @doc """
    Logs a user out on every device. On a page, log out the conn too, which may be about to renew its
    session: `Pow.Plug.delete(conn)`, and `PowPersistentSession.Plug.delete(conn)`.
    """
    @spec log_out_everywhere(map(), keyword()) :: :ok
    def log_out_everywhere(user, options) do
      log_out_those(user, options, &Renewals.end_user(&1, user, nil), fn _id, _fingerprint ->
        true
      end)
    end

    @doc """
    Returns the `live_socket_id` of a session, which `PowRedisCache.Plug.TrackSession` puts into the session
    of Plug. It does not reveal the fingerprint.
    """
    @spec live_socket_id(binary()) :: binary()
    def live_socket_id(fingerprint) when is_binary(fingerprint) do
      digest = :crypto.hash(:sha256, fingerprint)
      "pow_redis_cache_session:" <> Base.url_encode64(digest, padding: false)
    end

    # `end_renewals` comes first, so that no renewal that is under way brings a session back.
    defp log_out_those(user, options, end_renewals, ends?) do
      fingerprints =
        Call.strictly(fn ->
          end_renewals.(pow_config(options))
          end_those(user, options, ends?)
        end)

      disconnect(fingerprints, endpoint(options))
    end

    # Returns the fingerprints of the ended sessions. Tokens first: a device that has one gets a new session
    # for it.
    defp end_those(user, options, ends?) do
      config = pow_config(options)

      ended =
        for {id, metadata} <- sessions(user, config),
            ends?.(id, metadata[:fingerprint]),
            do: {id, metadata[:fingerprint]}

      fingerprints = for {_id, fingerprint} <- ended, fingerprint != nil, do: fingerprint

      of_tokens =
        delete_tokens(user, token_config(options), &(&1 in fingerprints or ends?.(nil, &1)))

      {store, store_config} = Pow.Plug.Base.store(config)
      for {id, _fingerprint} <- ended, do: store.delete(store_config, id)
      Enum.uniq(fingerprints ++ of_tokens)
    end

    # The ids of the sessions of a user, each with its metadata, or with `nil` if it has just ended.
    defp sessions(user, config) do
      {store, store_config} = Pow.Plug.Base.store(config)

      for id <- store.sessions(store_config, user) do
        case store.get(store_config, id) do
          {_user, metadata} when is_list(metadata) -> {id, metadata}
          _ended -> {id, nil}
        end
      end
    end

    # Returns the fingerprints of the deleted tokens. Their sessions may have expired before.
    defp delete_tokens(user, config, ends?) do
      {store, store_config} = PersistentSession.store(config)

      ended =
        for {_token, fingerprint} = token <- all_tokens(user, config),
            ends?.(fingerprint),
            do: token

      for {token, _fingerprint} <- ended, do: store.delete(store_config, token)
      for {_token, fingerprint} <- ended, fingerprint != nil, do: fingerprint
    end

    # Those that are found in one lookup, if the store has one.
    defp listed_tokens(user, config) do
      case PersistentSession.store(config) do
        {PersistentSessionStore, store_config} ->
          PersistentSessionStore.tokens(store_config, user)

        _store ->
          all_tokens(user, config)
      end
    end

    # The tokens of a user, each with the fingerprint of its session, or `nil`.
    defp all_tokens(user, config) do
      {store, store_config} = PersistentSession.store(config)

      cond do
        not persistent_sessions?(config) ->
          []

        store == PersistentSessionStore and store.indexed?(store_config) ->
          store.tokens(store_config, user)

        true ->
          for {token, {owner, metadata}} <- store.all(store_config, [:_]),
              UserKey.same?(owner, user, store_config),
              do: {token, PersistentSessionStore.fingerprint(metadata)}
      end
    end

    # In an app without them, no tokens need to be looked for.
    defp persistent_sessions?(config) do
      PowPersistentSession in Pow.Config.get(config, :extensions, []) or
        Pow.Config.get(config, :persistent_session_store, nil) != nil
    end

    defp pow_config(options) do
      case options[:conn] do
        nil -> own_config(options)
        conn -> conn |> Pow.Plug.fetch_config() |> Keyword.merge(own_config(options))
      end
    end

    # The plug of persistent sessions has a configuration of its own.
    defp token_config(options) do
      case options[:conn] && options[:conn].private[:pow_persistent_session] do
        {_plug, config} -> Keyword.merge(config, own_config(options))
        nil -> pow_config(options)
      end
    end

    defp own_config(options), do: Keyword.drop(options, [:conn, :endpoint])

    defp current_fingerprint(nil), do: nil
    defp current_fingerprint(conn), do: conn.private[:pow_session_metadata][:fingerprint]

    defp endpoint(options) do
      options[:endpoint] || (options[:conn] && options[:conn].private[:phoenix_endpoint])
    end

    defp disconnect(_fingerprints, nil), do: :ok

    defp disconnect(fingerprints, endpoint) do
      for fingerprint <- fingerprints,
          do: endpoint.broadcast(live_socket_id(fingerprint), "disconnect", %{})

      :ok
    end
  end
end
