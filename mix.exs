Code.require_file("mix/compile.pow_redis_cache.ex", __DIR__)

defmodule PowRedisCache.MixProject do
  use Mix.Project

  def project do
    [
      app: :pow_redis_cache,
      version: "0.1.0",
      elixir: "~> 1.14",
      compilers: [:pow_redis_cache | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()),
      deps: deps(Code.ensure_loaded?(Hex)),
      description: "Pow's sessions in Redis: a cache store backend with a native core",
      package: package()
    ]
  end

  def application do
    [extra_applications: [:logger, :crypto, :public_key]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(:bench), do: ["lib", "test/support", "bench/lib"]
  defp elixirc_paths(_env), do: ["lib"]

  # Used where it is present. A machine without Hex builds and tests without it.
  defp deps(true), do: [{:pow, "~> 1.0", optional: true}, {:telemetry, "~> 1.0", optional: true}]
  defp deps(false), do: []

  defp package do
    [
      licenses: ["Apache-2.0"],
      files: [
        ".cargo/config.toml",
        "lib",
        "guides",
        "mix",
        "guides",
        "native/*/Cargo.toml",
        "native/*/src",
        "Cargo.toml",
        "Cargo.lock",
        "mix.exs",
        "README.md",
        "CHANGELOG.md",
        "LICENSE"
      ]
    ]
  end
end
