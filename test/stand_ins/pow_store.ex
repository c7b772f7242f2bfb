defmodule Pow.Config do
  @moduledoc "Stands in for Pow's configuration where Pow is not available."

  defmodule ConfigError do
    defexception [:message]
  end

  @doc "What the configuration lacks comes from the environment of the app."
  def get(config, key, default \\ nil) do
    environment =
      case Keyword.fetch(config, :otp_app) do
        {:ok, app} -> Application.get_env(app, :pow, [])
        :error -> Application.get_all_env(:pow)
      end

    environment |> Keyword.merge(config) |> Keyword.get(key, default)
  end

  @spec raise_error(String.t()) :: no_return()
  def raise_error(message), do: raise(ConfigError, message: message)
end

defmodule Pow.UUID do
  @moduledoc "Stands in for Pow's random ids where Pow is not available."

  def generate, do: 16 |> :crypto.strong_rand_bytes() |> Base.encode16(case: :lower)
end

defmodule Pow.Operations do
  @moduledoc "Stands in for Pow's access to users where Pow is not available."

  alias Pow.Config

  @doc "The primary key of a schema, or else `:id`."
  def fetch_primary_key_values(%module{} = user, _config) do
    keys =
      if function_exported?(module, :__schema__, 1),
        do: module.__schema__(:primary_key),
        else: [:id]

    case for(key <- keys, Map.get(user, key) == nil, do: key) do
      [] -> {:ok, for(key <- keys, do: {key, Map.fetch!(user, key)})}
      [key | _keys] -> {:error, "The primary key #{inspect(key)} has no value"}
    end
  end

  @doc "Reads the user again, from the `:users_context`."
  def reload(user, config) do
    {:ok, clauses} = fetch_primary_key_values(user, config)
    Config.get(config, :users_context, nil).get_by(clauses)
  end
end

defmodule Pow.Store.Base do
  @moduledoc "Stands in for what Pow's stores are made of where Pow is not available."

  @type config :: keyword()

  @callback put(config(), term(), term()) :: :ok
  @callback delete(config(), term()) :: :ok
  @callback get(config(), term()) :: term() | :not_found
  @callback all(config(), term()) :: [{term(), term()}]

  defmacro __using__(defaults) do
    quote do
      @behaviour Pow.Store.Base

      @impl Pow.Store.Base
      def put(config, key, value),
        do: Pow.Store.Base.put(config, backend_config(config), {key, value})

      @impl Pow.Store.Base
      def delete(config, key), do: Pow.Store.Base.delete(config, backend_config(config), key)

      @impl Pow.Store.Base
      def get(config, key), do: Pow.Store.Base.get(config, backend_config(config), key)

      @impl Pow.Store.Base
      def all(config, match), do: Pow.Store.Base.all(config, backend_config(config), match)

      def backend_config(config) do
        [
          ttl: Pow.Config.get(config, :ttl, unquote(defaults[:ttl])),
          namespace: Pow.Config.get(config, :namespace, unquote(defaults[:namespace]))
        ]
      end

      defoverridable Pow.Store.Base
    end
  end

  def put(config, backend_config, records), do: config[:backend].put(backend_config, records)
  def delete(config, backend_config, key), do: config[:backend].delete(backend_config, key)
  def get(config, backend_config, key), do: config[:backend].get(backend_config, key)
  def all(config, backend_config, match), do: config[:backend].all(backend_config, match)
end

defmodule Pow.Store.CredentialsCache do
  @moduledoc "Stands in for Pow's store of sessions where Pow is not available."

  use Pow.Store.Base, ttl: :timer.minutes(30), namespace: "credentials"

  alias Pow.Store.Base

  def sessions(config, user) do
    match = user_key(user) ++ [:session, :_]
    for {key, _began} <- Base.all(config, backend_config(config), match), do: List.last(key)
  end

  @impl Base
  def put(config, id, {user, metadata}) do
    end_sessions_of_device(config, user, metadata[:fingerprint])
    user_key = user_key(user)

    Base.put(config, backend_config(config), [
      {id, {user_key, metadata}},
      {user_key, user},
      {user_key ++ [:session, id], System.os_time(:millisecond)}
    ])
  end

  @impl Base
  def get(config, id) do
    backend_config = backend_config(config)

    with {user_key, metadata} <- Base.get(config, backend_config, id),
         %_{} = user <- Base.get(config, backend_config, user_key),
         do: {user, metadata}
  end

  @impl Base
  def delete(config, id) do
    backend_config = backend_config(config)

    with {user_key, _metadata} <- Base.get(config, backend_config, id) do
      Base.delete(config, backend_config, id)
      Base.delete(config, backend_config, user_key ++ [:session, id])
    end

    :ok
  end

  defp end_sessions_of_device(_config, _user, nil), do: :ok

  defp end_sessions_of_device(config, user, fingerprint) do
    for id <- sessions(config, user),
        {_user_key, metadata} <- [Base.get(config, backend_config(config), id)],
        metadata[:fingerprint] == fingerprint,
        do: delete(config, id)

    :ok
  end

  defp user_key(%module{} = user) do
    case Pow.Operations.fetch_primary_key_values(user, []) do
      {:ok, [id: id]} -> [module, :user, id]
      {:ok, clauses} -> [module, :user, Enum.sort(clauses)]
    end
  end
end
