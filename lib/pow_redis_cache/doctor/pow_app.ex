defmodule PowRedisCache.Doctor.PowApp do
  @moduledoc false
  # The checks of an app that uses Pow: its configuration, its supervision tree and its endpoints.

  alias PowRedisCache.{Error, Instance, PersistentSessionStore, Testing}
  alias PowRedisCache.Doctor.{Check, StartOrder}

  # Called only if the app includes Pow.
  @compile {:no_warn_undefined,
            [Pow.Plug.Base, PowPersistentSession.Plug.Base, PersistentSessionStore]}

  # What Pow uses by default.
  @session_ttl_renewal :timer.minutes(15)

  # Pow raises if it is shorter.
  @secret_bytes 64

  @names ["backend", "start order", "secret_key_base", "sessions", "persistent sessions"]

  @doc "Returns the apps that have a configuration of Pow, if Pow is here."
  def names do
    if Code.ensure_loaded?(Pow.Plug.Base) do
      apps = for {app, _description, _version} <- Application.loaded_applications(), do: app
      apps |> Enum.filter(&(config(&1) != [])) |> Enum.sort()
    else
      []
    end
  end

  @doc "Returns the checks of an app."
  def checks(app) do
    config = config(app)

    for name <- @names do
      {status, detail, advice} = check(name, app, config)
      %Check{name: name, status: status, detail: detail, advice: advice}
    end
  end

  defp config(app) do
    config = Application.get_env(app, :pow, [])
    if Keyword.keyword?(config), do: config, else: []
  end

  defp check("backend", app, config) do
    backend = config[:cache_store_backend]
    instance = instance(backend)
    set = "Set `cache_store_backend: PowRedisCache` in `config #{inspect(app)}, :pow`."

    cond do
      backend == nil ->
        {:error,
         "cache_store_backend is not set: Pow keeps sessions in memory, and a restart logs out all users",
         set}

      instance == nil ->
        {:error, "#{inspect(backend)} does not belong to this package", set}

      instance not in Instance.names() ->
        {:error, "#{inspect(instance)} is not running",
         "Add {#{inspect(instance)}, url: \"redis://…\"} to the children of your application's " <>
           "supervisor, before the endpoint."}

      backend == Testing ->
        {:warning, "#{inspect(backend)}, which is for tests", "Set it in config/test.exs only."}

      true ->
        {:ok, inspect(backend), nil}
    end
  end

  defp check("start order", _app, config) do
    instance = instance(config[:cache_store_backend])

    case instance && Process.whereis(instance) do
      nil -> {:skipped, "needs backend", nil}
      pid -> start_order(instance, pid)
    end
  end

  defp check("secret_key_base", _app, _config) do
    results = for endpoint <- endpoints(), do: secret(endpoint)

    # The worst one.
    Enum.find(results, &(elem(&1, 0) == :error)) || Enum.find(results, &(elem(&1, 0) == :warning)) ||
      List.first(results) || {:skipped, "no endpoint is running", nil}
  end

  defp check("sessions", app, config) do
    renewal = Keyword.get(config, :session_ttl_renewal, @session_ttl_renewal)

    with :ok <- store_option(config, :credentials_cache_store),
         {:ok, ttl} <- ttl(Pow.Plug.Base.store(otp_app: app), ":credentials_cache_store") do
      cond do
        not (is_integer(renewal) and renewal >= 0) ->
          {:error, "session_ttl_renewal is not a number of milliseconds",
           "Set it to half of the TTL of sessions, for example `:timer.minutes(15)`."}

        renewal >= ttl ->
          {:warning,
           "sessions end after #{time(ttl)}, before they are renewed after #{time(renewal)}: active " <>
             "users are logged out", "Set session_ttl_renewal to half of the TTL of sessions."}

        true ->
          {:ok, "end after #{time(ttl)}, renewed after #{time(renewal)}", nil}
      end
    end
  end

  defp check("persistent sessions", app, config) do
    if PowPersistentSession in (config[:extensions] || []) and
         Code.ensure_loaded?(PowPersistentSession.Plug.Base) do
      persistent_sessions(app, config)
    else
      {:skipped, "PowPersistentSession is not in :extensions", nil}
    end
  end

  defp start_order(instance, pid) do
    orders = for endpoint <- endpoints(), do: {order(pid, endpoint), endpoint}

    case List.keyfind(orders, :after, 0) || List.keyfind(orders, :before, 0) do
      {:after, endpoint} ->
        {:warning,
         "#{inspect(instance)} starts after #{inspect(endpoint)}: requests that arrive in between fail",
         "Move it in front of the endpoint in the children of your application's supervisor."}

      {:before, endpoint} ->
        {:ok, "#{inspect(instance)} starts before #{inspect(endpoint)}", nil}

      nil ->
        {:skipped, "no supervisor starts both the backend and an endpoint", nil}
    end
  end

  defp persistent_sessions(app, config) do
    with :ok <- store_option(config, :persistent_session_store),
         store = PowPersistentSession.Plug.Base.store(otp_app: app),
         {:ok, ttl} <- ttl(store, ":persistent_session_ttl") do
      if ttl <= session_ttl(app, config) do
        {:warning, "they end after #{time(ttl)}, not later than sessions",
         "Set persistent_session_ttl to the time for which users stay logged in, for example " <>
           "`:timer.hours(24) * 30`."}
      else
        tokens(store, time(ttl))
      end
    end
  end

  # Whether the tokens of a user are found without reading those of all users.
  defp tokens({PersistentSessionStore, config}, time) do
    if PersistentSessionStore.indexed?(config) do
      {:ok, "end after #{time}, found by user", nil}
    else
      {:warning, "the tokens of a user are not indexed: a logout reads those of all users",
       "Run `mix pow_redis_cache.index_tokens` once, when all servers of the app have this store."}
    end
  rescue
    Error -> {:skipped, "needs backend", nil}
  end

  defp tokens(_store, time), do: {:ok, "end after #{time}", nil}

  defp session_ttl(app, config) do
    with :ok <- store_option(config, :credentials_cache_store),
         {:ok, ttl} <- ttl(Pow.Plug.Base.store(otp_app: app), nil) do
      ttl
    else
      # The check of sessions reports it.
      _error -> 0
    end
  end

  # The name of the instance that a backend uses, or `nil` if it is not known.
  defp instance(nil), do: nil
  defp instance(Testing), do: PowRedisCache

  defp instance(backend) do
    if backend == PowRedisCache or
         (Code.ensure_loaded?(backend) and function_exported?(backend, :put_new, 2) and
            function_exported?(backend, :reindex, 1)),
       do: backend
  end

  defp endpoints do
    for name <- Enum.sort(Process.registered()), endpoint?(name), do: name
  end

  defp endpoint?(name) do
    Code.ensure_loaded?(name) and function_exported?(name, :module_info, 1) and
      name.module_info(:attributes)
      |> Keyword.get_values(:behaviour)
      |> Enum.any?(&(Phoenix.Endpoint in &1))
  end

  defp order(pid, endpoint) do
    case Process.whereis(endpoint) do
      nil -> :unknown
      endpoint -> StartOrder.of(pid, endpoint)
    end
  end

  # Shows no byte of it.
  defp secret(endpoint) do
    secret = endpoint.config(:secret_key_base)
    configured = Application.get_env(endpoint.config(:otp_app), endpoint, [])[:secret_key_base]

    cond do
      not is_binary(secret) ->
        {:error, "#{inspect(endpoint)} has none: Pow cannot sign sessions",
         "Set it in config/runtime.exs, as `mix phx.new` does, from SECRET_KEY_BASE."}

      byte_size(secret) < @secret_bytes ->
        {:error, "that of #{inspect(endpoint)} is shorter than #{@secret_bytes} bytes",
         "Generate one with `mix phx.gen.secret`."}

      secret == System.get_env("SECRET_KEY_BASE") ->
        {:ok, "that of #{inspect(endpoint)} is SECRET_KEY_BASE", nil}

      secret != configured ->
        {:warning,
         "that of #{inspect(endpoint)} is not in its configuration: if each start generates another " <>
           "one, it logs out all users",
         "Set it in config/runtime.exs from SECRET_KEY_BASE, the same on all hosts."}

      true ->
        {:ok, "that of #{inspect(endpoint)} is in its configuration", nil}
    end
  end

  # Pow raises a CaseClauseError at each request.
  defp store_option(config, option) do
    case config[option] do
      nil ->
        :ok

      {store, options} when is_atom(store) and is_list(options) ->
        :ok

      _other ->
        {:error, "#{option} is not a module with options",
         "Write it as `#{option}: {MyApp.Store, []}`."}
    end
  end

  defp ttl({store, config}, option) do
    ttl =
      if Code.ensure_loaded?(store) and function_exported?(store, :backend_config, 1),
        do: store.backend_config(config)[:ttl],
        else: config[:ttl]

    if is_integer(ttl) and ttl > 0,
      do: {:ok, ttl},
      else:
        {:error, "the TTL (#{option}) is not a positive number of milliseconds",
         "Set it to one, for example `:timer.minutes(30)`."}
  end

  defp time(milliseconds) do
    {unit, name} =
      Enum.find(
        [{:timer.hours(24), "days"}, {:timer.hours(1), "hours"}, {:timer.minutes(1), "minutes"}],
        {:timer.seconds(1), "seconds"},
        fn {unit, _name} -> milliseconds >= 2 * unit end
      )

    "#{Float.round(milliseconds / unit, 1)} #{name}" |> String.replace(".0 ", " ")
  end
end
