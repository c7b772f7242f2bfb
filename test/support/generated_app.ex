defmodule PowRedisCache.GeneratedApp do
  @moduledoc """
  The files of an app after `mix phx.new shop` and `mix pow.install`, as far as `mix pow_redis_cache.install`
  looks at them.
  """

  @app %{
    "mix.exs" => """
    defmodule Shop.MixProject do
      use Mix.Project

      def project do
        [
          app: :shop,
          version: "0.1.0",
          deps: deps()
        ]
      end

      def application do
        [
          mod: {Shop.Application, []},
          extra_applications: [:logger]
        ]
      end

      defp deps do
        [
          {:phoenix, "~> 1.7.14"},
          {:pow, "~> 1.0.39"},
          {:pow_redis_cache, path: "../pow_redis_cache"}
        ]
      end
    end
    """,
    "config/config.exs" => """
    import Config

    config :shop, ecto_repos: [Shop.Repo]

    config :shop, :pow,
      user: Shop.Users.User,
      repo: Shop.Repo

    # Imports the configuration of the environment.
    # It must remain the last line.
    import_config "\#{config_env()}.exs"
    """,
    "config/runtime.exs" => """
    import Config

    if System.get_env("PHX_SERVER") do
      config :shop, ShopWeb.Endpoint, server: true
    end

    if config_env() == :prod do
      config :shop, Shop.Repo, url: System.fetch_env!("DATABASE_URL")
    end
    """,
    "config/test.exs" => """
    import Config

    config :logger, level: :warning
    """,
    "lib/shop/application.ex" => """
    defmodule Shop.Application do
      @moduledoc false

      use Application

      @impl true
      def start(_type, _args) do
        children = [
          ShopWeb.Telemetry,
          Shop.Repo,
          # Requests come last
          ShopWeb.Endpoint
        ]

        opts = [strategy: :one_for_one, name: Shop.Supervisor]
        Supervisor.start_link(children, opts)
      end
    end
    """,
    "lib/shop/repo.ex" => """
    defmodule Shop.Repo do
      use Ecto.Repo, otp_app: :shop, adapter: Ecto.Adapters.Postgres
    end
    """,
    "lib/shop/users/user.ex" => """
    defmodule Shop.Users.User do
      use Ecto.Schema
      use Pow.Ecto.Schema
    end
    """,
    "lib/shop_web/endpoint.ex" => """
    defmodule ShopWeb.Endpoint do
      use Phoenix.Endpoint, otp_app: :shop

      @session_options [store: :cookie, key: "_shop_key", signing_salt: "salt"]

      plug Plug.Head
      plug Plug.Session, @session_options
      plug Pow.Plug.Session, otp_app: :shop
      plug ShopWeb.Router
    end
    """
  }

  @doc "The files of the app: a map of paths and texts."
  def files, do: @app

  @doc "Writes the app into a folder."
  def write!(folder), do: write(folder, @app)

  @doc "Writes files into a folder: a map of paths and texts."
  def write(folder, files) do
    for {path, text} <- files do
      path = Path.join(folder, path)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
    end
  end

  @doc "The Elixir files of a folder: a map of paths and texts."
  def read(folder) do
    for path <- folder |> Path.join("**/*.{ex,exs}") |> Path.wildcard(),
        into: %{},
        do: {Path.relative_to(path, folder), File.read!(path)}
  end

  @doc "Replaces a part of a file, which has to have it."
  def change(folder, path, old, new) do
    file = Path.join(folder, path)
    text = File.read!(file)
    changed = String.replace(text, old, new)
    if changed == text, do: raise("#{path} has no #{inspect(old)}")
    File.write!(file, changed)
  end
end
