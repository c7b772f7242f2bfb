defmodule PowRedisCache.HerokuTest do
  # Repeats the steps of Heroku's buildpacks: build in one folder, keep _build and deps for the next build
  # in another folder, and run in a third folder without cargo.
  use ExUnit.Case, async: true

  @moduletag :integration

  # A build may take minutes.
  @moduletag timeout: :infinity

  import PowRedisCache.Build

  alias PowRedisCache.RedisServer

  setup do
    [folder: folder!()]
  end

  test "an app with a git dependency is built, rebuilt, moved and run", %{folder: folder} do
    package = copy_package!(Path.join(folder, "package"))
    git_init!(package)

    environment = [
      {"MIX_ENV", "prod"},
      {"PACKAGE", "git:file://#{package}"},
      {"CARGO_TARGET_DIR", nil}
    ]

    # The first build. The crates are precompiled to save time.
    first = copy_app!(Path.join(folder, "build_first"))
    File.mkdir_p!(Path.join(first, "_build/cargo"))
    copy_target!(Path.join(first, "_build/cargo/pow_redis_cache"))
    assert build(first, environment) =~ "cargo build --release"
    assert cargo_artifacts(first) == []

    # The second build, with the folders that the buildpack caches.
    second = copy_app!(Path.join(folder, "build_second"))
    for name <- ["_build", "deps"], do: copy(Path.join(first, name), Path.join(second, name))
    File.rm_rf!(first)
    refute build(second, environment ++ without_cargo()) =~ "cargo"

    # The dyno.
    app = Path.join(folder, "app")
    File.rename!(second, app)
    File.rm_rf!(package)
    assert run(app, ["--no-compile"], environment) == []

    # As Heroku starts it. Elixir 1.15 and later recompile the app, since its folder changed.
    changed = run(app, [], environment)
    assert Enum.filter(changed, &(&1 =~ "pow_redis_cache")) == []
  end

  # Elixir 1.15 and later recompile path dependencies, too.
  test "an app with a vendored package is built, moved and run", %{folder: folder} do
    build = copy_app!(Path.join(folder, "build"))
    copy_package!(Path.join(build, "vendor/pow_redis_cache"))
    environment = [{"MIX_ENV", "prod"}, {"PACKAGE", "path:vendor/pow_redis_cache"}]
    prebuilt = [{"POW_REDIS_CACHE_PREBUILT", prebuild!(Path.join(folder, "prebuilt"))}]
    build(build, environment ++ prebuilt ++ without_cargo())

    app = Path.join(folder, "app")
    File.rename!(build, app)
    changed = run(app, [], environment)
    assert Enum.filter(changed, &(&1 =~ "priv" or &1 =~ "vendor/pow_redis_cache")) == []
  end

  # As https://github.com/HashNuke/heroku-buildpack-elixir does.
  defp build(app, environment) do
    for arguments <- [
          ["deps.get", "--only", "prod"],
          ["compile", "--force"],
          ["deps.clean", "--unused"]
        ],
        into: "" do
      assert {output, 0} = mix(app, arguments, environment)
      output
    end
  end

  # Runs the app without cargo and returns the changed paths in its folder.
  defp run(app, arguments, environment) do
    before = tree(app)
    url = RedisServer.url(:persistent_term.get(RedisServer))
    arguments = ["run"] ++ arguments ++ ["-e", "App.run(#{inspect(url)})"]
    assert {output, 0} = mix(app, arguments, environment ++ without_cargo())
    assert output =~ "App ran."
    refute output =~ "cargo"
    changes(before, tree(app))
  end

  defp copy(from, to), do: {_, 0} = System.cmd("cp", ["-pR", from, to])

  # Intermediate files of cargo in any folder.
  defp cargo_artifacts(app) do
    for path <- Map.keys(tree(app)),
        Path.extname(path) in [".rlib", ".rmeta", ".rcgu", ".d", ".o"],
        do: path
  end
end
