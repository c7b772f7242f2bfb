defmodule MyApp.MixProject do
  use Mix.Project

  def project do
    [
      app: :my_app,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: if(Mix.env() == :test, do: ["lib", "test/support"], else: ["lib"]),
      start_permanent: Mix.env() == :prod,
      aliases: aliases(),
      deps: deps()
    ]
  end

  def application do
    [mod: {MyApp.Application, []}, extra_applications: [:logger]]
  end

  defp deps do
    [
      # Pow 1.0.39 needs Phoenix below 1.8. The tests of LiveView 1.0 need Floki, later ones do not.
      {:phoenix, "~> 1.7.14"},
      {:phoenix_ecto, "~> 4.5"},
      {:phoenix_html, "~> 4.1"},
      {:phoenix_live_view, "~> 1.0.0"},
      {:phoenix_live_dashboard, "~> 0.8.5"},
      {:telemetry_metrics, "~> 1.0"},
      {:telemetry_poller, "~> 1.1"},
      {:bandit, "~> 1.5"},
      {:jason, "~> 1.2"},
      {:floki, ">= 0.30.0", only: :test},
      {:ecto_sql, "~> 3.12"},
      {:postgrex, "~> 0.19"},
      {:pow, "~> 1.0.39"},
      # In an app of its own:
      # {:pow_redis_cache, git: "https://github.com/OWNER/pow_redis_cache"}
      {:pow_redis_cache, path: "../.."}
    ]
  end

  defp aliases do
    [
      setup: ["deps.get", "ecto.create", "ecto.migrate", "pow_redis_cache.index_tokens"],
      test: ["ecto.create --quiet", "ecto.migrate --quiet", "test"]
    ]
  end
end
