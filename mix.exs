Code.require_file("mix/compile.pow_redis_cache.ex", __DIR__)

defmodule PowRedisCache.MixProject do
  use Mix.Project

  # The one declaration of the repository's URL. Documents repeat it; a test compares them.
  @source_url "https://github.com/OWNER/pow_redis_cache"
  @test_envs ["test.fast": :test, lint: :test]

  def project do
    [
      app: :pow_redis_cache,
      version: PowRedisCache.NativeLibrary.version(),
      elixir: "~> 1.14",
      compilers: [:pow_redis_cache | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()) ++ stand_ins(Mix.env()),
      test_ignore_filters: [&String.starts_with?(&1, "test/fixtures/")],
      deps: deps(hex?()),
      # Without Hex, Pow cannot be declared, but may be on the code path all the same.
      prune_code_paths: hex?(),
      aliases: aliases(),
      description: "A Redis session store for Pow, on a Rust NIF",
      package: package(),
      name: "PowRedisCache",
      source_url: @source_url,
      docs: docs()
    ] ++ preferred_envs(System.version())
  end

  def cli, do: [preferred_envs: @test_envs]

  # Elixir 1.14 reads them here, and later ones warn about that.
  defp preferred_envs("1.14" <> _patch), do: [preferred_cli_env: @test_envs]
  defp preferred_envs(_version), do: []

  def application do
    [extra_applications: [:logger, :crypto, :public_key] ++ test_applications(Mix.env())]
  end

  # The support of the tests has a TLS server.
  defp test_applications(env) when env in [:test, :bench], do: [:ssl]
  defp test_applications(_env), do: []

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(:bench), do: ["lib", "test/support", "bench/lib"]
  defp elixirc_paths(_env), do: ["lib"]

  # Where Pow is not available, tests use modules that stand in for it.
  defp stand_ins(:test) do
    if hex?() or Code.ensure_loaded?(Pow.Plug), do: [], else: ["test/stand_ins"]
  end

  defp stand_ins(_env), do: []

  defp aliases do
    [
      "test.fast": "test --exclude integration",
      lint: "cmd bin/lint"
    ]
  end

  # A machine without Hex builds and tests without the dependencies.
  defp hex?, do: Code.ensure_loaded?(Hex)

  defp deps(true) do
    [
      {:pow, "~> 1.0", optional: true},
      {:telemetry, "~> 1.0", optional: true},
      live_view(Mix.env()),
      {:ex_doc, "~> 0.34", only: :dev, runtime: false}
    ]
  end

  defp deps(false), do: []

  # Pow declares it as optional, but does not compile without it. Apps that depend on this package load
  # this file in :prod: they get no dependency, and no restriction of the version that they use. 0.20 is
  # the last minor version for Elixir 1.14.0.
  defp live_view(:prod), do: {:phoenix_live_view, ">= 0.0.0", optional: true, runtime: false}

  defp live_view(_env) do
    {:phoenix_live_view, "~> 0.20.0", only: [:dev, :test, :bench], runtime: false}
  end

  defp docs do
    [
      main: "readme",
      source_ref: "v#{PowRedisCache.NativeLibrary.version()}",
      extras:
        ["README.md"] ++
          guides() ++ ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"],
      assets: %{"guides/assets" => "assets"},
      groups_for_extras: [Guides: ~r"^guides/"],
      groups_for_modules: [Tools: [~r/Doctor/, PowRedisCache.Progress]]
    ]
  end

  # In the order of reading.
  defp guides do
    names =
      ~w(pow several_tabs devices testing heroku containers migrating logged_out reliability) ++
        ~w(security sealing performance capacity data_model)

    for name <- names, do: "guides/#{name}.md"
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{
        "GitHub" => @source_url,
        "Changelog" => "#{@source_url}/blob/main/CHANGELOG.md"
      },
      # All files that the build of the library needs.
      files: [
        ".cargo/config.toml",
        "lib",
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
