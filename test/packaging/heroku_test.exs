defmodule PowRedisCache.HerokuTest do
  # What Heroku's buildpacks do: build in one folder, keep _build and deps for the next build, which
  # has another folder, and run in a third, where there is no cargo.
  use ExUnit.Case, async: true

  @moduletag :integration

  # A slow machine builds for long.
  @moduletag timeout: :infinity

  import PowRedisCache.Build

  alias PowRedisCache.RedisServer

  setup do
    [folder: folder!()]
  end

  test "an app is built, built again, moved and run", %{folder: folder} do
    package = copy_package!(Path.join(folder, "package"))
    git_init!(package)

    environment = [
      {"MIX_ENV", "prod"},
      {"PACKAGE", "git:file://#{package}"},
      {"CARGO_TARGET_DIR", nil}
    ]

    # The first build. Only the crates are there already, as they would take long.
    first = copy_app!(Path.join(folder, "build_first"))
    File.mkdir_p!(Path.join(first, "_build/cargo"))
    copy_target!(Path.join(first, "_build/cargo/pow_redis_cache"))
    assert build(first, environment) =~ "cargo build --release"
    assert made_by_cargo(first) == []

    # The second one, with what the buildpack has kept.
    second = copy_app!(Path.join(folder, "build_second"))
    for name <- ["_build", "deps"], do: copy(Path.join(first, name), Path.join(second, name))
    File.rm_rf!(first)
    refute build(second, environment ++ without_cargo()) =~ "cargo"

    # The dyno.
    app = Path.join(folder, "app")
    File.rename!(second, app)
    File.rm_rf!(package)
    assert run(app, ["--no-compile"], environment) == []

    # As Heroku starts it. Elixir 1.15 and later compile the app again, as its folder is another.
    changed = run(app, [], environment)
    assert Enum.filter(changed, &(&1 =~ "pow_redis_cache")) == []
  end

  # Elixir 1.15 and later compile dependencies by path again, too.
  test "a vendored package is moved and run", %{folder: folder} do
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

  # Runs the app without cargo, and returns what has changed in its folder.
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

  # What cargo makes on the way to a library, wherever it lies.
  defp made_by_cargo(app) do
    for path <- Map.keys(tree(app)),
        Path.extname(path) in [".rlib", ".rmeta", ".rcgu", ".d", ".o"],
        do: path
  end
end
