import Config

config :my_app, MyApp.Repo,
  url:
    System.get_env(
      "DATABASE_URL",
      "postgres://postgres:postgres@localhost/my_app_#{config_env()}"
    )

config :my_app, redis_url: System.get_env("REDIS_URL", "redis://localhost:6379")

config :my_app, MyAppWeb.Endpoint,
  http: [ip: {127, 0, 0, 1}, port: String.to_integer(System.get_env("PORT", "4000"))]

if config_env() == :prod do
  config :my_app, MyAppWeb.Endpoint,
    server: true,
    secret_key_base: System.fetch_env!("SECRET_KEY_BASE")
else
  config :my_app, MyAppWeb.Endpoint, secret_key_base: String.duplicate("not a secret ", 5)
end
