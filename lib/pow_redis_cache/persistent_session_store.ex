if Code.ensure_loaded?(PowPersistentSession.Store.PersistentSessionCache) do
  defmodule PowRedisCache.PersistentSessionStore do
    @moduledoc """
    The store of `PowPersistentSession`, with the tokens of each user in one lookup.

        config :my_app, :pow,
          persistent_session_store: {PowRedisCache.PersistentSessionStore, []}

    Values are those of Pow's own store. Beside each token, `put/3` writes the record
    `{[user_struct, :user, id, :token, token], fingerprint}`, so that `tokens/2` need not read the tokens
    of all users. `:fingerprint` is that of the session with which the token was made, or `nil`.

    Tokens written by Pow's own store work, but `tokens/2` does not find them until
    `index_tokens/2` or `mix pow_redis_cache.index_tokens` has run.
    """

    alias Pow.Store.Base
    alias PowPersistentSession.Store.PersistentSessionCache
    alias PowRedisCache.UserKey

    use Base,
      ttl: :timer.hours(24) * 30,
      namespace: "persistent_session"

    # The record that says that all tokens are indexed.
    @marker [:pow_redis_cache, :tokens_indexed]

    @impl Base
    def put(config, token, {owner, metadata}) do
      records = [{token, {owner, metadata}} | index_record(config, owner, token, metadata)]
      Base.put(config, backend_config(config), records)
    end

    @impl Base
    defdelegate get(config, token), to: PersistentSessionCache

    @impl Base
    def delete(config, token) do
      backend_config = backend_config(config)

      # The token first: as long as it exists, it logs in.
      with {owner, metadata} <- Base.get(config, backend_config, token) do
        Base.delete(config, backend_config, token)

        for {key, _fingerprint} <- index_record(config, owner, token, metadata),
            do: Base.delete(config, backend_config, key)
      end

      :ok
    end

    @doc "Returns the tokens of a user, each with the fingerprint of the session it belongs to, or `nil`."
    @spec tokens(Base.config(), map()) :: [{binary(), binary() | nil}]
    def tokens(config, user) do
      pattern = index_key(config, user, :_)

      for {key, fingerprint} <- Base.all(config, backend_config(config), pattern),
          do: {List.last(key), fingerprint}
    end

    @doc "Whether `tokens/2` finds all tokens: `index_tokens/2` has run."
    @spec indexed?(Base.config()) :: boolean()
    def indexed?(config), do: Base.get(config, backend_config(config), @marker) != :not_found

    defp index_record(config, %_{} = user, token, metadata),
      do: [{index_key(config, user, token), fingerprint(metadata)}]

    # Clauses, as Pow 1.0.20 and earlier wrote them: they name no struct.
    defp index_record(_config, _clauses, _token, _metadata), do: []

    defp index_key(config, user, token), do: UserKey.parts(user, config) ++ [:token, token]

    defp fingerprint(metadata), do: get_in(metadata, [:session_metadata, :fingerprint])
  end
end
