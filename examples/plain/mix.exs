defmodule Plain.MixProject do
  use Mix.Project

  def project do
    [
      app: :plain,
      version: "0.1.0",
      elixir: "~> 1.14",
      # In an app of its own: {:pow_redis_cache, git: "https://github.com/OWNER/pow_redis_cache"}
      deps: [{:pow_redis_cache, path: "../.."}]
    ]
  end

  def application do
    [mod: {Plain.Application, []}, extra_applications: [:logger]]
  end
end
