defmodule Plain.MixProject do
  use Mix.Project

  def project do
    [
      app: :plain,
      version: "0.1.0",
      elixir: "~> 1.14",
      # In your app: {:pow_redis_cache, "~> 0.1"}
      deps: [{:pow_redis_cache, path: "../.."}]
    ]
  end

  def application do
    [mod: {Plain.Application, []}, extra_applications: [:logger]]
  end
end
