import Config

config :my_app, ecto_repos: [MyApp.Repo]

config :my_app, :pow,
  user: MyApp.Users.User,
  repo: MyApp.Repo,
  cache_store_backend: PowRedisCache,
  persistent_session_store: {PowRedisCache.PersistentSessionStore, []},
  extensions: [PowPersistentSession, PowResetPassword],
  controller_callbacks: MyAppWeb.Pow.ControllerCallbacks,
  mailer_backend: MyAppWeb.Pow.Mailer

config :my_app, MyAppWeb.Endpoint,
  adapter: Bandit.PhoenixAdapter,
  pubsub_server: MyApp.PubSub,
  live_view: [signing_salt: "live view"],
  render_errors: [
    formats: [html: MyAppWeb.ErrorHTML],
    root_layout: [html: {MyAppWeb.Layouts, :root}],
    layout: false
  ]

config :my_app, dashboard: config_env() != :prod

config :phoenix, :json_library, Jason

if config_env() == :test do
  config :logger, level: :warning
  # Tests need no slow hash.
  config :pow, Pow.Ecto.Schema.Password, iterations: 1
  config :my_app, MyApp.Repo, pool: Ecto.Adapters.SQL.Sandbox
  # Each test has sessions of its own.
  config :my_app, :pow, cache_store_backend: PowRedisCache.Testing
end
