defmodule Mix.Tasks.PowRedisCache.InstallTest do
  # Not async: the task looks at the current folder of the VM.
  use ExUnit.Case

  import ExUnit.CaptureIO

  import PowRedisCache.GeneratedApp, only: [write: 2, read: 1, change: 4]

  alias Mix.Tasks.PowRedisCache.Install
  alias PowRedisCache.GeneratedApp

  setup do
    folder = Path.join(System.tmp_dir!(), "install_#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm_rf!(folder) end)
    GeneratedApp.write!(folder)
    [folder: folder]
  end

  describe "a generated app" do
    test "without --apply is shown what it lacks, and stays as it is", %{folder: folder} do
      assert {:incomplete, output} = run(folder, [])

      assert output =~ """
             --- a/config/config.exs
             +++ b/config/config.exs
             @@ -3,6 +3,7 @@
              config :shop, ecto_repos: [Shop.Repo]
             \s
              config :shop, :pow,
             +  cache_store_backend: PowRedisCache,
                user: Shop.Users.User,
                repo: Shop.Repo
             \s
             """

      for path <- ~w(config/runtime.exs config/test.exs lib/shop/application.ex) do
        assert output =~ "+++ b/#{path}\n"
      end

      assert output =~ "mix pow_redis_cache.install --apply"
      assert read(folder) == GeneratedApp.files()
    end

    test "with --apply gets it", %{folder: folder} do
      added = applied(folder)

      assert added == %{
               "config/config.exs" => ["  cache_store_backend: PowRedisCache,"],
               "config/runtime.exs" => [
                 ~s|config :shop, redis_url: System.get_env("REDIS_URL", "redis://localhost:6379")|,
                 ""
               ],
               "config/test.exs" => [
                 "# Tests keep sessions in memory",
                 "config :shop, :pow, cache_store_backend: Pow.Store.Backend.EtsCache",
                 ""
               ],
               "lib/shop/application.ex" => [
                 "      {PowRedisCache, url: Application.fetch_env!(:shop, :redis_url)},"
               ],
               "lib/shop_web/endpoint.ex" => [
                 "  plug PowRedisCache.Plug.RenewalGrace, otp_app: :shop",
                 "  plug PowRedisCache.Plug.TrackSession"
               ]
             }
    end

    test "is written as the formatter would", %{folder: folder} do
      assert {:ok, _output} = run(folder, ["--apply"])

      for {path, text} <- read(folder) do
        formatted = Code.format_string!(text, locals_without_parens: [plug: 1, plug: 2])
        assert {path, IO.iodata_to_binary([formatted, "\n"])} == {path, text}
      end
    end

    test "is left alone by a second run", %{folder: folder} do
      assert {:ok, output} = run(folder, ["--apply"])
      assert output =~ "Changed 5 files."
      once = read(folder)

      for arguments <- [["--apply"], []] do
        assert run(folder, arguments) == {:ok, "Nothing to do.\n"}
        assert read(folder) == once
      end
    end

    test "keeps its line endings", %{folder: folder} do
      write(
        folder,
        Map.new(GeneratedApp.files(), fn {path, text} ->
          {path, String.replace(text, "\n", "\r\n")}
        end)
      )

      assert {:ok, output} = run(folder, ["--apply"])
      refute output =~ "\r"

      for {path, text} <- read(folder) do
        refute {path, text =~ ~r/[^\r]\n/} == {path, true}
      end

      crlf = read(folder)
      write(folder, GeneratedApp.files())
      assert {:ok, _output} = run(folder, ["--apply"])

      assert Map.new(crlf, fn {path, text} -> {path, String.replace(text, "\r\n", "\n")} end) ==
               read(folder)
    end
  end

  describe "mix.exs" do
    test "without Pow: says so, and nothing else", %{folder: folder} do
      change(folder, "mix.exs", ~s(      {:pow, "~> 1.0.39"},\n), "")
      assert {:incomplete, output} = by_hand(folder, ["mix.exs"])
      assert output =~ ~s({:pow, "~> 1.0.39"})
      refute output =~ "config/"
    end

    test "without this package: gets the dependency", %{folder: folder} do
      change(folder, "mix.exs", ~s(,\n      {:pow_redis_cache, path: "../pow_redis_cache"}), "")
      added = applied(folder)
      assert [~s(      {:pow_redis_cache, git: ) <> _url] = added["mix.exs"]
      assert map_size(added) == 6
      assert run(folder, []) == {:ok, "Nothing to do.\n"}
    end

    test "with dependencies of another form: by hand", %{folder: folder} do
      change(folder, "mix.exs", ~s(,\n      {:pow_redis_cache, path: "../pow_redis_cache"}), "")
      change(folder, "mix.exs", "deps: deps()", "deps: deps() ++ more()")
      change(folder, "mix.exs", "defp deps do", "defp deps(_env) do\n    # All\n    base = ")
      assert {:incomplete, _output} = by_hand(folder, ["mix.exs"])
    end

    test "of an umbrella: says where to run it", %{folder: folder} do
      change(folder, "mix.exs", "app: :shop", ~s(apps_path: "apps"))

      assert_raise Mix.Error, ~r/umbrella project. Run it in the folder of the app/, fn ->
        run(folder, [])
      end
    end

    test "missing, or without the name of the app: an error", %{folder: folder} do
      change(folder, "mix.exs", "app: :shop", "app: @name")
      assert_raise Mix.Error, ~r/app: :name in mix.exs/, fn -> run(folder, []) end
      File.rm!(Path.join(folder, "mix.exs"))
      assert_raise Mix.Error, ~r/expected a mix.exs/, fn -> run(folder, []) end
    end
  end

  describe "Pow's own set-up" do
    test "missing: says so, and nothing else", %{folder: folder} do
      File.rm!(Path.join(folder, "lib/shop/users/user.ex"))
      change(folder, "config/config.exs", ~r/config :shop, :pow,.*?\n\n/s, "")
      assert {:incomplete, output} = by_hand(folder, ["lib"])
      assert output =~ "mix pow.install"
    end

    test "with users of another kind is taken as it is", %{folder: folder} do
      File.rm!(Path.join(folder, "lib/shop/users/user.ex"))
      assert {:ok, _output} = run(folder, ["--apply"])
    end
  end

  describe "config/config.exs" do
    test "without Pow's configuration: gets it, with the app's own names", %{folder: folder} do
      change(folder, "config/config.exs", ~r/config :shop, :pow,.*?\n\n/s, "")
      change(folder, "lib/shop/users/user.ex", "Shop.Users.User", "Shop.Accounts.Account")
      assert {:ok, _output} = run(folder, ["--apply"])

      assert read(folder)["config/config.exs"] =~ """
             config :shop, ecto_repos: [Shop.Repo]

             # Users and sessions
             config :shop, :pow,
               user: Shop.Accounts.Account,
               repo: Shop.Repo,
               cache_store_backend: PowRedisCache

             # Imports the configuration of the environment.
             """
    end

    test "without import_config: gets it at the end", %{folder: folder} do
      change(folder, "config/config.exs", ~r/config :shop, :pow,.*/s, "")
      assert {:ok, _output} = run(folder, ["--apply"])

      assert String.ends_with?(
               read(folder)["config/config.exs"],
               "  cache_store_backend: PowRedisCache\n"
             )
    end

    test "with persistent sessions: gets their store, and the endpoint their plug", %{
      folder: folder
    } do
      change(folder, "config/config.exs", "repo: Shop.Repo\n", """
      repo: Shop.Repo,
        extensions: [PowResetPassword, PowPersistentSession]
      """)

      added = applied(folder)

      assert [
               "  cache_store_backend: PowRedisCache,",
               "  persistent_session_store: {PowRedisCache.PersistentSessionStore, []},"
             ] = added["config/config.exs"]

      assert read(folder)["lib/shop_web/endpoint.ex"] =~ """
               plug PowRedisCache.Plug.RenewalGrace, otp_app: :shop
               plug Pow.Plug.Session, otp_app: :shop
               plug PowPersistentSession.Plug.Cookie
               plug PowRedisCache.Plug.TrackSession
               plug ShopWeb.Router
             """
    end

    test "with options in one line, or in brackets", %{folder: folder} do
      change(
        folder,
        "config/config.exs",
        ":pow,\n  user: Shop.Users.User,\n ",
        ":pow, user: Shop.Users.User,"
      )

      assert {:ok, _output} = run(folder, ["--apply"])

      assert read(folder)["config/config.exs"] =~
               "config :shop, :pow, cache_store_backend: PowRedisCache, user: Shop.Users.User, repo: Shop.Repo\n"

      change(folder, "config/config.exs", ~r/:pow, .*/, ":pow, [user: Shop.Users.User]")
      assert {:ok, _output} = run(folder, ["--apply"])

      assert read(folder)["config/config.exs"] =~
               "config :shop, :pow, [cache_store_backend: PowRedisCache, user: Shop.Users.User]"
    end

    test "with another backend: by hand", %{folder: folder} do
      change(
        folder,
        "config/config.exs",
        "repo: Shop.Repo\n",
        "cache_store_backend: ShopWeb.RedisCache\n"
      )

      assert {:incomplete, output} = by_hand(folder, ["config/config.exs"])
      assert output =~ "guides/migrating.md"
    end

    test "with a backend of the app that uses this package: present", %{folder: folder} do
      change(
        folder,
        "config/config.exs",
        "repo: Shop.Repo\n",
        "cache_store_backend: Shop.Sessions\n"
      )

      write(folder, %{
        "lib/shop/sessions.ex" => "defmodule Shop.Sessions do\n  use PowRedisCache\nend\n"
      })

      added = applied(folder)
      refute added["config/config.exs"]
      assert [child] = added["lib/shop/application.ex"]
      assert child =~ "{Shop.Sessions, url: "
    end

    test "with options that are no list, missing, or no Elixir: by hand", %{folder: folder} do
      change(folder, "config/config.exs", ~r/:pow,\n.*?\n\n/s, ":pow, pow\n\n")
      assert {:incomplete, _output} = by_hand(folder, ["config/config.exs"])
      write(folder, %{"config/config.exs" => "import Config ("})
      assert {:incomplete, _output} = by_hand(folder, ["config/config.exs"])
      File.rm!(Path.join(folder, "config/config.exs"))
      assert {:incomplete, _output} = by_hand(folder, ["config/config.exs"])
    end
  end

  describe "config/runtime.exs" do
    test "is left alone if the URL is configured elsewhere", %{folder: folder} do
      write(folder, %{
        "config/prod.exs" => ~s(import Config\nconfig :shop, :redis_url, "redis://h"\n)
      })

      added = applied(folder)
      refute added["config/runtime.exs"]
    end

    test "gets the URL if only another app or the tests have one", %{folder: folder} do
      write(folder, %{
        "config/dev.exs" => "import Config\n\nconfig :other, redis_url: nil\n",
        "config/test.exs" => "import Config\n\nconfig :shop, redis_url: nil\n"
      })

      assert applied(folder)["config/runtime.exs"]
    end

    test "is left alone if the instance has a URL of its own", %{folder: folder} do
      change(
        folder,
        "lib/shop/application.ex",
        "Shop.Repo,",
        "Shop.Repo,\n      {PowRedisCache, url: url()},"
      )

      added = applied(folder)
      refute added["config/runtime.exs"]
    end

    test "without a part for production: gets the URL at the end", %{folder: folder} do
      write(folder, %{"config/runtime.exs" => "import Config\n"})
      assert {:ok, _output} = run(folder, ["--apply"])

      assert read(folder)["config/runtime.exs"] ==
               ~s|import Config\n\nconfig :shop, redis_url: System.get_env("REDIS_URL", "redis://localhost:6379")\n|
    end

    test "missing: by hand", %{folder: folder} do
      File.rm!(Path.join(folder, "config/runtime.exs"))
      assert {:incomplete, _output} = by_hand(folder, ["config/runtime.exs"])
    end
  end

  describe "config/test.exs" do
    test "with another store is left alone", %{folder: folder} do
      text = "import Config\n\nconfig :shop, :pow, cache_store_backend: PowRedisCache.Testing\n"
      write(folder, %{"config/test.exs" => text})
      assert {:ok, _output} = run(folder, ["--apply"])
      assert read(folder)["config/test.exs"] == text
    end

    test "with other options of Pow: gets the store", %{folder: folder} do
      write(folder, %{
        "config/test.exs" => "import Config\n\nconfig :shop, :pow,\n  password_min_length: 1\n"
      })

      assert {:ok, _output} = run(folder, ["--apply"])

      assert read(folder)["config/test.exs"] ==
               "import Config\n\nconfig :shop, :pow,\n" <>
                 "  cache_store_backend: Pow.Store.Backend.EtsCache,\n  password_min_length: 1\n"
    end

    test "with options that are no list, or missing: by hand", %{folder: folder} do
      write(folder, %{"config/test.exs" => "import Config\n\nconfig :shop, :pow, pow\n"})
      assert {:incomplete, _output} = by_hand(folder, ["config/test.exs"])
      File.rm!(Path.join(folder, "config/test.exs"))
      assert {:incomplete, _output} = by_hand(folder, ["config/test.exs"])
    end
  end

  describe "application.ex" do
    test "with children in one line", %{folder: folder} do
      change(
        folder,
        "lib/shop/application.ex",
        ~r/\[\n.*?ShopWeb.Endpoint\n\s*\]/s,
        "[Shop.Repo, ShopWeb.Endpoint]"
      )

      assert {:ok, _output} = run(folder, ["--apply"])

      assert read(folder)["lib/shop/application.ex"] =~
               "[Shop.Repo, {PowRedisCache, url: Application.fetch_env!(:shop, :redis_url)}, ShopWeb.Endpoint]"
    end

    test "with an endpoint that has options", %{folder: folder} do
      change(folder, "lib/shop/application.ex", "ShopWeb.Endpoint\n", "{ShopWeb.Endpoint, []}\n")
      added = applied(folder)
      assert [_child] = added["lib/shop/application.ex"]
    end

    test "with the instance after the endpoint: by hand", %{folder: folder} do
      change(
        folder,
        "lib/shop/application.ex",
        "ShopWeb.Endpoint\n",
        "ShopWeb.Endpoint,\n      PowRedisCache\n"
      )

      assert {:incomplete, output} = by_hand(folder, ["lib/shop/application.ex"])
      assert output =~ "move it before the endpoint"
    end

    test "with a list of another form: by hand", %{folder: folder} do
      change(folder, "lib/shop/application.ex", "children = [", "children = base() ++ [")
      assert {:incomplete, _output} = by_hand(folder, ["lib/shop/application.ex"])
    end
  end

  describe "the endpoint" do
    test "without Pow's plug: gets it", %{folder: folder} do
      change(folder, "lib/shop_web/endpoint.ex", "  plug Pow.Plug.Session, otp_app: :shop\n", "")
      assert {:ok, _output} = run(folder, ["--apply"])

      assert read(folder)["lib/shop_web/endpoint.ex"] =~ """
               plug Plug.Session, @session_options
               plug PowRedisCache.Plug.RenewalGrace, otp_app: :shop
               plug Pow.Plug.Session, otp_app: :shop
               plug PowRedisCache.Plug.TrackSession
               plug ShopWeb.Router
             """
    end

    test "with Pow's plug in the router: by hand", %{folder: folder} do
      change(folder, "lib/shop_web/endpoint.ex", "  plug Pow.Plug.Session, otp_app: :shop\n", "")
      write(folder, %{"lib/shop_web/router.ex" => "plug Pow.Plug.Session, otp_app: :shop\n"})
      assert {:incomplete, output} = by_hand(folder, ["lib/shop_web/endpoint.ex"])
      assert output =~ "    plug PowRedisCache.Plug.TrackSession\n"
    end

    test "with plugs in another order: by hand", %{folder: folder} do
      change(
        folder,
        "lib/shop_web/endpoint.ex",
        "  plug Plug.Head\n",
        "  plug PowRedisCache.Plug.TrackSession\n"
      )

      assert {:incomplete, _output} = by_hand(folder, ["lib/shop_web/endpoint.ex"])
    end

    test "with Plug.Session in a block or last, or no endpoint: by hand", %{folder: folder} do
      change(folder, "lib/shop_web/endpoint.ex", ~r/  plug Pow.*\n/s, "end\n")
      assert {:incomplete, _output} = by_hand(folder, ["lib/shop_web/endpoint.ex"])

      change(
        folder,
        "lib/shop_web/endpoint.ex",
        ~r/  plug Plug.Session.*/,
        "  if true, do: plug(Plug.Session)"
      )

      assert {:incomplete, _output} = by_hand(folder, ["lib/shop_web/endpoint.ex"])
      File.rm!(Path.join(folder, "lib/shop_web/endpoint.ex"))
      assert {:incomplete, _output} = by_hand(folder, ["lib"])
      # Without an endpoint, the place of the instance is not known either.
      write(folder, Map.take(GeneratedApp.files(), ["lib/shop/application.ex"]))
      assert {:incomplete, _output} = by_hand(folder, ["lib", "lib/shop/application.ex"])
    end
  end

  test "arguments that it does not have are refused", %{folder: folder} do
    for arguments <- [["--aply"], ["now"], ["--apply", "1"]] do
      assert_raise Mix.Error, ~r/expected --apply or no argument, got: /, fn ->
        run(folder, arguments)
      end
    end
  end

  # Runs the task, which must leave these files to be changed by hand.
  defp by_hand(folder, paths) do
    before = read(folder)
    {result, output} = run(folder, ["--apply"])

    assert Enum.sort(
             for [_, path] <- Regex.scan(~r/^✗ by hand: .*\n\n(.*?): /m, output), do: path
           ) == Enum.sort(paths)

    for path <- paths, do: assert(read(folder)[path] == before[path])
    {result, output}
  end

  defp run(folder, arguments) do
    with_io(fn ->
      File.cd!(folder, fn ->
        try do
          Install.run(arguments)
        catch
          :exit, {:shutdown, 1} -> :incomplete
        end
      end)
    end)
  end

  # Runs the task. Returns the lines that it adds, by file.
  defp applied(folder) do
    before = read(folder)
    assert {:ok, _output} = run(folder, ["--apply"])

    for {path, text} <- read(folder),
        differences = List.myers_difference(lines(before[path]), lines(text)),
        lines = for({:ins, lines} <- differences, line <- lines, do: line),
        lines != [],
        into: %{},
        do: {path, lines}
  end

  defp lines(text), do: String.split(text, "\n")
end
