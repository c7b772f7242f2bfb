if match?({:module, _}, Code.ensure_compiled(Pow.Plug.Base)) do
  defmodule PowRedisCache.Renewals do
    @moduledoc false
    # The records of renewals. An id is that of a session, or a token; Pow makes both of random UUIDs.
    #
    #   id                                => {:claimed, nonce}               a request renews it
    #   id                                => {:renewed, session_id, token}   what has replaced it
    #   ["ended" | user_key]              => {:except, fingerprint}          all other devices are logged out
    #   ["ended", fingerprint | user_key] => true                            a device is logged out
    #
    # A renewal does not begin after a logout: it claims, and then reads `ended?/3`. When it ends, it writes
    # its session and token, then `renewed/4`, and then reads `ended?/3` again. A logout first calls
    # `end_device/3` or `end_user/3`, and then looks for sessions, tokens and successors. So one of the two
    # finds the other, in whichever order they run.

    alias PowPersistentSession.Plug.Base, as: PersistentSession
    alias PowRedisCache.{Call, UserKey}

    # Their namespace is `[namespace, "renewal"]`, with the namespace of Pow's sessions.

    # How long a request may take to renew before another does.
    @claim_ttl :timer.seconds(10)
    # How long it may take to renew and still notice a logout.
    @ended_ttl :timer.seconds(60)

    # How long a request waits for another that has deleted the old session and not yet written the new one.
    @wait :timer.seconds(5)
    @pause 10

    # How many renewals are followed from an old id.
    @max_hops 16

    @doc "Claims an id. Of concurrent requests, one gets `true`."
    def claim(config, id) do
      put_new(config, @claim_ttl, {id, {:claimed, :crypto.strong_rand_bytes(16)}})
    end

    @doc "Withdraws a claim."
    def release(config, id), do: backend(config).delete(options(config, @claim_ttl), id)

    @doc """
    Records what has replaced ids, for `grace` milliseconds. If another request took over a claim meanwhile,
    its session and token are replaced too.
    """
    def renewed(config, ids, successor, grace) do
      overtaken = Enum.flat_map(ids, &delete_overtaken(config, &1, successor))
      record = {:renewed, successor.session_id, successor.token}
      records = for id <- ids ++ overtaken, do: {id, record}
      backend(config).put(options(config, grace), records)
    end

    defp delete_overtaken(config, id, %{session_id: new_session_id, token: new_token}) do
      case get(config, id) do
        {:renewed, session_id, token} when session_id != new_session_id ->
          token = if token != new_token, do: token
          delete(config, session_id, token)
          [session_id | List.wrap(token)]

        _claim ->
          []
      end
    end

    @doc """
    Returns the last of the successors of ids, as `{session_id, token, value}` with the value that the store
    of sessions has for it, or `nil`. Waits for renewals under way if `wait?`.
    """
    def successor(config, ids, wait? \\ false) do
      deadline = now() + if wait?, do: @wait, else: 0
      follow(config, ids, deadline, @max_hops)
    end

    @doc """
    Notes that a device of a user is logged out. Call it before looking for its session, token and successors.
    """
    def end_device(_config, _user, nil), do: :ok

    def end_device(config, user, fingerprint) do
      record = {["ended", fingerprint | user_key(config, user)], true}
      backend(config).put(options(config, @ended_ttl), record)
    end

    @doc """
    Notes that a user is logged out on all devices but the one with the fingerprint, if it is not `nil`. Call
    it before looking for the user's sessions and tokens.
    """
    def end_user(config, user, fingerprint) do
      record = {["ended" | user_key(config, user)], {:except, fingerprint}}
      backend(config).put(options(config, @ended_ttl), record)
    end

    @doc """
    Whether a device of a user has just been logged out. Raises if Redis cannot be reached, also with
    `on_error: :miss`.
    """
    def ended?(config, user, fingerprint) do
      user_key = user_key(config, user)

      Call.strictly(fn ->
        get(config, ["ended", fingerprint | user_key]) == true or
          case get(config, ["ended" | user_key]) do
            {:except, kept} -> kept == nil or kept != fingerprint
            :not_found -> false
          end
      end)
    end

    @doc "Deletes a session and a token from Pow's stores."
    def delete(config, session_id, token) do
      if session_id do
        {store, store_config} = Pow.Plug.Base.store(config)
        store.delete(store_config, session_id)
      end

      if token do
        {store, store_config} = PersistentSession.store(config)
        store.delete(store_config, token)
      end

      :ok
    end

    defp follow(_config, [], _deadline, _hops), do: nil
    defp follow(_config, _ids, _deadline, 0), do: nil

    defp follow(config, [id | ids], deadline, hops) do
      case get(config, id) do
        {:renewed, session_id, token} ->
          case session(config, session_id) do
            {_user, _metadata} = value ->
              {session_id, token, value}

            _ended ->
              follow(config, [session_id | List.wrap(token)] ++ ids, deadline, hops - 1)
          end

        {:claimed, _nonce} ->
          if now() < deadline do
            Process.sleep(@pause)
            follow(config, [id | ids], deadline, hops)
          else
            follow(config, ids, deadline, hops)
          end

        _none ->
          follow(config, ids, deadline, hops)
      end
    end

    defp session(config, id) do
      {store, store_config} = Pow.Plug.Base.store(config)
      store.get(store_config, id)
    end

    defp get(config, key), do: backend(config).get(options(config, @claim_ttl), key)

    # Backends of others have no put_new/2: two requests may then both get the claim, as without it.
    defp put_new(config, ttl, {id, _value} = record) do
      backend = backend(config)

      if Code.ensure_loaded?(backend) and function_exported?(backend, :put_new, 2) do
        backend.put_new(options(config, ttl), record)
      else
        is_new = backend.get(options(config, ttl), id) == :not_found
        if is_new, do: backend.put(options(config, ttl), record)
        is_new
      end
    end

    defp user_key(config, user) do
      {_store, store_config} = Pow.Plug.Base.store(config)
      UserKey.parts(user, store_config)
    end

    defp backend(config) do
      {_store, store_config} = Pow.Plug.Base.store(config)
      Keyword.fetch!(store_config, :backend)
    end

    defp options(config, ttl) do
      {store, store_config} = Pow.Plug.Base.store(config)

      namespace =
        if Code.ensure_loaded?(store) and function_exported?(store, :backend_config, 1),
          do: store.backend_config(store_config)[:namespace],
          else: store_config[:namespace]

      [namespace: [namespace, "renewal"], ttl: ttl]
    end

    defp now, do: System.monotonic_time(:millisecond)
  end
end
