import Config

config :my_app, MyApp.Repo,
  url:
    System.get_env(
      "DATABASE_URL",
      "postgres://postgres:postgres@localhost/my_app_#{config_env()}"
    )

# Tests have a Redis database of their own.
database = if config_env() == :test, do: 1, else: 0
config :my_app, redis_url: System.get_env("REDIS_URL", "redis://localhost:6379/#{database}")

secret_key_base =
  if config_env() == :prod,
    do: System.fetch_env!("SECRET_KEY_BASE"),
    else: String.duplicate("not a secret ", 5)

config :my_app, MyAppWeb.Endpoint,
  http: [ip: {127, 0, 0, 1}, port: String.to_integer(System.get_env("PORT", "4000"))],
  secret_key_base: secret_key_base
