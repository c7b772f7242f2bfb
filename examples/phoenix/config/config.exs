import Config

config :my_app, ecto_repos: [MyApp.Repo]

config :my_app, :pow,
  user: MyApp.Users.User,
  repo: MyApp.Repo,
  cache_store_backend: PowRedisCache,
  extensions: [PowPersistentSession, PowResetPassword],
  controller_callbacks: MyAppWeb.Pow.ControllerCallbacks,
  mailer_backend: MyAppWeb.Pow.Mailer

config :my_app, MyAppWeb.Endpoint,
  adapter: Bandit.PhoenixAdapter,
  render_errors: [formats: [html: MyAppWeb.ErrorHTML], layout: false]

config :phoenix, :json_library, Jason

if config_env() == :test do
  config :logger, level: :warning
  config :my_app, MyApp.Repo, pool: Ecto.Adapters.SQL.Sandbox
end
