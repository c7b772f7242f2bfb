defmodule PowRedisCache.DoctorOfPowTest do
  # The doctor's checks of an app that uses Pow.
  use PowRedisCache.Case, async: false

  import ExUnit.CaptureIO
  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Doctor, PersistentSessionStore}
  alias PowRedisCache.Doctor.PowApp

  @app :app_with_pow
  @secret String.duplicate("s3cret-k3y-base!", 4)

  defmodule Endpoint do
    @behaviour Phoenix.Endpoint

    use Supervisor

    def start_link(secret), do: Supervisor.start_link(__MODULE__, secret, name: __MODULE__)

    @impl Supervisor
    def init(secret) do
      :persistent_term.put(__MODULE__, secret)
      Supervisor.init([], strategy: :one_for_one)
    end

    @impl Phoenix.Endpoint
    def config(key, _default \\ nil) do
      case key do
        :otp_app -> :app_with_pow
        :secret_key_base -> :persistent_term.get(__MODULE__)
      end
    end
  end

  defmodule Backend do
    use PowRedisCache
  end

  defmodule OtherBackend do
    def put(_config, _records), do: :ok
  end

  setup do
    :ok = :application.load({:application, @app, [modules: []]})
    on_exit(fn -> :application.unload(@app) end)
    configure(cache_store_backend: Backend)
    Application.put_env(@app, Endpoint, secret_key_base: @secret)
  end

  @moduletag instance: [name: nil]

  defp configure(options), do: Application.put_env(@app, :pow, options)

  # Starts children as the supervisor of an app does.
  defp start(context, children) do
    children =
      for child <- children do
        case child do
          :instance -> {Backend, [connect_option(context.server)]}
          :endpoint -> {Endpoint, context[:secret] || @secret}
          other -> other
        end
      end

    start_supervised!(%{
      id: make_ref(),
      start: {Supervisor, :start_link, [children, [strategy: :one_for_one]]},
      type: :supervisor
    })
  end

  describe "an app that is set up well" do
    test "passes", context do
      configure(
        cache_store_backend: Backend,
        extensions: [PowPersistentSession],
        session_ttl_renewal: :timer.minutes(10)
      )

      start(context, [:instance, :endpoint])
      checks = PowApp.checks(@app)
      assert Enum.reject(checks, &(&1.status == :ok)) == []
      assert detail(checks, "backend") == inspect(Backend)

      assert detail(checks, "start order") ==
               "#{inspect(Backend)} starts before #{inspect(Endpoint)}"

      assert detail(checks, "secret_key_base") ==
               "that of #{inspect(Endpoint)} is in its configuration"

      assert detail(checks, "sessions") == "end after 30 minutes, renewed after 10 minutes"
      assert detail(checks, "persistent sessions") == "end after 30 days"
    end

    test "finds tokens by user once they are indexed", context do
      store = {PersistentSessionStore, namespace: context.namespace}
      options = [extensions: [PowPersistentSession], persistent_session_store: store]
      configure([cache_store_backend: Backend] ++ options)
      # Redis is not there yet.
      assert "persistent sessions" in skipped(PowApp.checks(@app))

      start(context, [:instance, :endpoint])
      checks = PowApp.checks(@app)
      assert warned(checks) == ["persistent sessions"]

      assert advice(checks, "persistent sessions") =~
               "Run `mix pow_redis_cache.index_tokens` once"

      assert PersistentSessionStore.index_tokens(otp_app: @app) == 0

      assert detail(PowApp.checks(@app), "persistent sessions") ==
               "end after 30 days, found by user"
    end

    test "is one of the doctor's reports", context do
      start(context, [:instance, :endpoint])
      assert PowApp.names() == [@app]
      # The reports of instances depend on what other tests left in Redis.
      output = capture_io(fn -> Doctor.run() end)
      assert output =~ ~r/^Pow in :app_with_pow$/m

      assert output =~
               ~r/^  ✓ sessions             end after 30 minutes, renewed after 15 minutes$/mu

      assert output =~
               "- skipped, PowPersistentSession is not in :extensions: persistent sessions"

      refute output =~ @secret
      refute capture_io(fn -> Doctor.run(name: Backend) end) =~ "Pow in"

      configure(user: User)
      assert capture_io(fn -> assert Doctor.run() == :error end) =~ ~r/^  ✗ backend  /mu
    end
  end

  describe "the backend" do
    test "has to be set" do
      configure(user: User)
      checks = PowApp.checks(@app)
      assert failed(checks) == ["backend"]
      assert detail(checks, "backend") =~ "a restart logs out all users"

      assert advice(checks, "backend") ==
               "Set `cache_store_backend: PowRedisCache` in `config :app_with_pow, :pow`."

      assert detail(checks, "start order") == "needs backend"
    end

    test "has to belong to this package" do
      for backend <- [OtherBackend, Nonexistent] do
        configure(cache_store_backend: backend)
        checks = PowApp.checks(@app)
        assert failed(checks) == ["backend"]
        assert detail(checks, "backend") == "#{inspect(backend)} does not belong to this package"
      end
    end

    test "has to be running" do
      checks = PowApp.checks(@app)
      assert failed(checks) == ["backend"]
      assert detail(checks, "backend") == "#{inspect(Backend)} is not running"
      assert advice(checks, "backend") =~ "Add {#{inspect(Backend)}, url: \"redis://…\"}"
    end

    test "of tests is for tests", %{server: server} do
      configure(cache_store_backend: PowRedisCache.Testing)
      start_supervised!({PowRedisCache, url: RedisServer.url(server)})
      checks = PowApp.checks(@app)
      assert warned(checks) == ["backend"]
      assert detail(checks, "backend") == "PowRedisCache.Testing, which is for tests"
    end
  end

  describe "the start order" do
    test "is wrong if the endpoint comes first", context do
      start(context, [:endpoint, :instance])
      checks = PowApp.checks(@app)
      assert warned(checks) == ["start order"]

      assert detail(checks, "start order") ==
               "#{inspect(Backend)} starts after #{inspect(Endpoint)}: requests that arrive in between fail"
    end

    test "is that of nested supervisors", context do
      nested = fn id, child ->
        %{
          id: id,
          start: {Supervisor, :start_link, [[child], [strategy: :one_for_one]]},
          type: :supervisor
        }
      end

      backend = nested.(:stores, {Backend, url: RedisServer.url(context.server)})
      start(context, [backend, {Agent, fn -> nil end}, nested.(:web, {Endpoint, @secret})])
      assert check(PowApp.checks(@app), "start order").status == :ok
    end

    test "is unknown without a common supervisor, or without an endpoint", context do
      {:ok, pid} = Backend.start_link(url: RedisServer.url(context.server))

      assert skipped(PowApp.checks(@app)) == [
               "start order",
               "secret_key_base",
               "persistent sessions"
             ]

      start(context, [:endpoint])
      checks = PowApp.checks(@app)
      assert skipped(checks) == ["start order", "persistent sessions"]

      assert detail(checks, "start order") ==
               "no supervisor starts both the backend and an endpoint"

      GenServer.stop(pid)
    end
  end

  describe "secret_key_base" do
    for {status, secret, detail} <- [
          {:error, nil, "has none"},
          {:error, "short", "is shorter than 64 bytes"},
          {:warning, String.duplicate("other", 20), "is not in its configuration"}
        ] do
      test "is reported if it #{detail}", context do
        secret = unquote(secret)
        start(context, [:instance, {Endpoint, secret}])
        checks = PowApp.checks(@app)
        assert check(checks, "secret_key_base").status == unquote(status)
        assert detail(checks, "secret_key_base") =~ inspect(Endpoint)
        assert detail(checks, "secret_key_base") =~ unquote(detail)
        assert is_binary(advice(checks, "secret_key_base"))
        if secret, do: refute(inspect(checks) =~ inspect(secret))
      end
    end

    test "may be SECRET_KEY_BASE", context do
      secret = String.duplicate("environment", 10)
      System.put_env("SECRET_KEY_BASE", secret)
      on_exit(fn -> System.delete_env("SECRET_KEY_BASE") end)
      start(context, [:instance, {Endpoint, secret}])

      assert detail(PowApp.checks(@app), "secret_key_base") ==
               "that of #{inspect(Endpoint)} is SECRET_KEY_BASE"
    end
  end

  describe "sessions" do
    setup context do
      start(context, [:instance, :endpoint])
      :ok
    end

    test "that end before they are renewed" do
      configure(
        cache_store_backend: Backend,
        credentials_cache_store: {Pow.Store.CredentialsCache, ttl: :timer.seconds(90)},
        session_ttl_renewal: :timer.minutes(15)
      )

      checks = PowApp.checks(@app)
      assert warned(checks) == ["sessions"]

      assert detail(checks, "sessions") ==
               "sessions end after 90 seconds, before they are renewed after 15 minutes: active users " <>
                 "are logged out"
    end

    test "with options that Pow cannot use" do
      for {options, detail} <- [
            {[session_ttl_renewal: nil], "session_ttl_renewal is not a number of milliseconds"},
            {[credentials_cache_store: Pow.Store.CredentialsCache],
             "credentials_cache_store is not a module with options"},
            {[credentials_cache_store: {Pow.Store.CredentialsCache, ttl: "30"}],
             "the TTL (:credentials_cache_store) is not a positive number of milliseconds"}
          ] do
        configure([cache_store_backend: Backend] ++ options)
        checks = PowApp.checks(@app)
        assert failed(checks) == ["sessions"]
        assert detail(checks, "sessions") == detail
      end
    end

    test "and persistent sessions have different TTLs" do
      persistent = [cache_store_backend: Backend, extensions: [PowPersistentSession]]
      configure([persistent_session_ttl: :timer.minutes(30)] ++ persistent)
      checks = PowApp.checks(@app)
      assert warned(checks) == ["persistent sessions"]

      assert detail(checks, "persistent sessions") ==
               "they end after 30 minutes, not later than sessions"

      configure([persistent_session_store: PowRedisCache.PersistentSessionStore] ++ persistent)
      checks = PowApp.checks(@app)
      assert failed(checks) == ["persistent sessions"]

      assert advice(checks, "persistent sessions") ==
               "Write it as `persistent_session_store: {MyApp.Store, []}`."
    end
  end
end
