if match?(
     {:module, _},
     Code.ensure_compiled(PowPersistentSession.Store.PersistentSessionCache)
   ) do
  defmodule PowRedisCache.PersistentSessionStore do
    @moduledoc """
    The store of `PowPersistentSession`, with the tokens of each user in one lookup.

        config :my_app, :pow,
          persistent_session_store: {PowRedisCache.PersistentSessionStore, []}

    Values are those of Pow's own store, and have its namespace and TTL. Beside each token, `put/3` writes the
    record `{[user_struct, :user, id, :token, token], fingerprint}`, so that `tokens/2` need not read the
    tokens of all users.

    Tokens that Pow's own store wrote keep logging in. `tokens/2` finds them after
    `mix pow_redis_cache.index_tokens` has run, once, when all servers of the app use this store. Until then,
    logging out with `PowRedisCache.Sessions` also reads the tokens of all users.
    """

    alias Pow.Store.Base
    alias PowPersistentSession.Store.PersistentSessionCache
    alias PowRedisCache.{PatientInstance, UserKey}

    use Base,
      ttl: :timer.hours(24) * 30,
      namespace: "persistent_session"

    # The key of the record that says that all tokens are indexed.
    @marker [:pow_redis_cache, :tokens_indexed]
    # How many records `index_tokens/1` writes at once.
    @page 500
    # The timeout of its calls, in milliseconds.
    @patience 600_000

    @impl Base
    def put(config, token, {user, metadata}) do
      record = {token, {user, metadata}}
      Base.put(config, backend_config(config), [record, index_record(config, record)])
    end

    @impl Base
    defdelegate get(config, token), to: PersistentSessionCache

    @impl Base
    def delete(config, token) do
      backend_config = backend_config(config)
      value = Base.get(config, backend_config, token)
      # The token first: as long as it exists, it logs in.
      Base.delete(config, backend_config, token)

      with {%_{}, _metadata} <- value do
        {key, _fingerprint} = index_record(config, {token, value})
        Base.delete(config, backend_config, key)
      end

      :ok
    end

    @doc """
    Returns the tokens of a user, each with the fingerprint of the session with which it was made, or with
    `nil`.
    """
    @spec tokens(Base.config(), map()) :: [{binary(), binary() | nil}]
    def tokens(config, user) do
      backend_config = backend_config(config)

      # A record outlives its token if the server stopped between the two commands of `delete/2`.
      for {key, fingerprint} <- Base.all(config, backend_config, index_key(config, user, :_)),
          token = List.last(key),
          Base.get(config, backend_config, token) != :not_found,
          do: {token, fingerprint}
    end

    @doc "Whether `tokens/2` finds all tokens: `index_tokens/1` has run."
    @spec indexed?(Base.config()) :: boolean()
    def indexed?(config), do: Base.get(config, backend_config(config), @marker) != :not_found

    @doc """
    Adds the missing records of all tokens of an app, and records that it has. Returns the number of tokens.

    Options:

      * `:otp_app` - the app, whose configuration of Pow has this store. Required.
      * `:progress` - called with a map of the `:keys` and the `:fraction` that are done, like
        `PowRedisCache.Progress.new/1`.

    All tokens are read at once, which may take at most ten minutes and 512 MB. They get records with the full
    TTL, which `tokens/2` ignores when the token has expired. Safe on a live system, and to repeat.
    """
    @spec index_tokens(keyword()) :: non_neg_integer()
    def index_tokens(options) do
      options = Keyword.validate!(options, [:otp_app, progress: fn _numbers -> :ok end])
      config = own_config!(options[:otp_app])

      PatientInstance.with_backend(config[:backend], @patience, fn backend ->
        index_all(Keyword.put(config, :backend, backend), options[:progress])
      end)
    end

    defp own_config!(otp_app) do
      case PowPersistentSession.Plug.Base.store(otp_app: otp_app) do
        {__MODULE__, config} ->
          config

        _other ->
          raise ArgumentError,
                "expected the configuration of Pow of #{inspect(otp_app)} to have " <>
                  "persistent_session_store: {#{inspect(__MODULE__)}, []}"
      end
    end

    defp index_all(config, progress) do
      backend_config = backend_config(config)

      records =
        for {token, {%_{}, _metadata}} = record when is_binary(token) <-
              Base.all(config, backend_config, [:_]),
            do: index_record(config, record)

      all = length(records)

      for {page, index} <- records |> Enum.chunk_every(@page) |> Enum.with_index() do
        Base.put(config, backend_config, page)
        done = index * @page + length(page)
        progress.(%{keys: done, fraction: done / all})
      end

      # It never expires, since tokens are written with their records from now on.
      marker = {@marker, System.os_time(:second)}
      Base.put(config, Keyword.put(backend_config, :ttl, :infinity), marker)
      all
    end

    @doc false
    # The fingerprint of the session with which a token was made, from the token's metadata.
    def fingerprint(metadata), do: metadata[:session_metadata][:fingerprint]

    defp index_record(config, {token, {user, metadata}}),
      do: {index_key(config, user, token), fingerprint(metadata)}

    defp index_key(config, user, token), do: UserKey.parts(user, config) ++ [:token, token]
  end
end
