defmodule PowRedisCache.BuildTest do
  # Building the package: as the top project, and as a dependency of an app.
  use ExUnit.Case, async: true

  alias PowRedisCache.RedisServer

  @moduletag timeout: 600_000

  @root Path.expand("..", __DIR__)
  @package ~w(lib mix native Cargo.toml Cargo.lock mix.exs .formatter.exs README.md)

  setup do
    folder =
      Path.join(
        System.tmp_dir!(),
        "pow_redis_cache_build_#{System.unique_integer([:positive])}_#{System.pid()}"
      )

    package = Path.join(folder, "package")
    File.mkdir_p!(package)
    on_exit(fn -> File.rm_rf!(folder) end)
    for name <- @package, do: File.cp_r!(Path.join(@root, name), Path.join(package, name))
    File.cp_r!(Path.join(@root, "test/fixtures/app"), Path.join(folder, "app"))
    [folder: folder, package: package, app: Path.join(folder, "app")]
  end

  test "cargo runs when the Rust sources changed, and only then", %{package: package} do
    library = Path.join(package, "priv/native/pow_redis_nif.so")

    assert {output, 0} = mix(package, ["compile"])
    assert output =~ "cargo build --release"
    built = File.read!(library)

    # Neither needs cargo.
    assert {output, 0} = mix(package, ["compile", "--force"], without_cargo())
    refute output =~ "cargo"
    moved = package <> "_moved"
    File.rename!(package, moved)
    assert {output, 0} = mix(moved, ["compile"], without_cargo())
    refute output =~ "cargo"
    File.rename!(moved, package)
    assert File.read!(library) == built

    source = Path.join(package, "native/pow_redis_nif/src/lib.rs")
    File.write!(source, File.read!(source) <> "\n// changed\n")
    assert {output, 0} = mix(package, ["compile"])
    assert output =~ "cargo build --release"

    assert {_output, 0} = mix(package, ["clean"])
    refute File.exists?(library)
    assert {output, 0} = mix(package, ["compile"])
    assert output =~ "cargo build --release"
    assert File.exists?(library)
  end

  test "a library that is in use is replaced, not written to", %{package: package} do
    library = Path.join(package, "priv/native/pow_redis_nif.so")
    assert {_output, 0} = mix(package, ["compile"])
    {:ok, %{inode: before}} = File.stat(library)
    File.rm!(Path.join(package, "priv/native/pow_redis_nif.sources"))
    assert {_output, 0} = mix(package, ["compile"])
    assert {:ok, %{inode: later}} = File.stat(library)
    assert later != before
  end

  test "without cargo it says what to install", %{package: package} do
    assert {output, status} = mix(package, ["compile"], without_cargo())
    assert status != 0
    assert output =~ "there is no cargo on this machine's PATH"
    assert output =~ ~r/Install Rust 1\.\d+\.0 or later \(https:\/\/rustup\.rs\)/
  end

  test "with a cargo that is too old it says so", %{package: package, folder: folder} do
    assert {output, status} =
             mix(package, ["compile"], with_cargo(folder, "cargo 1.60.0 (d1fd9fe2c 2022-03-01)"))

    assert status != 0
    assert output =~ ~r/built with Rust 1\.\d+\.0 or later, and this machine's cargo is 1\.60\.0/
    assert {output, _status} = mix(package, ["compile"], with_cargo(folder, "no toolchain"))
    assert output =~ "does not tell its version. It says: no toolchain"
  end

  test "a source that does not compile fails the build", %{package: package} do
    File.write!(Path.join(package, "native/pow_redis_nif/src/lib.rs"), "no rust")
    assert {output, status} = mix(package, ["compile"])
    assert status != 0
    assert output =~ "cargo could not build the native library of pow_redis_cache"
    refute File.exists?(Path.join(package, "priv/native/pow_redis_nif.so"))
  end

  test "works as a path dependency, with Pow", %{app: app, package: package} do
    run_app(app, "path:#{package}")
  end

  test "works as a git dependency, with Pow", %{app: app, package: package} do
    git = fn arguments ->
      {_, 0} = System.cmd("git", arguments, cd: package, stderr_to_stdout: true)
    end

    git.(["init", "-q"])
    git.(["add", "-A"])
    git.(["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "package"])
    run_app(app, "git:file://#{package}")
  end

  defp run_app(app, package) do
    server = :persistent_term.get(RedisServer)
    environment = [{"PACKAGE", package}, {"POW", Path.join(@root, "test/fixtures/pow")}]
    assert {_output, 0} = mix(app, ["deps.get"], environment)
    assert {output, 0} = mix(app, ["compile"], environment)
    assert output =~ "cargo build --release"

    assert {output, 0} =
             mix(app, ["run", "-e", "App.run(\"#{RedisServer.url(server)}\")"], environment)

    assert output =~ "App ran. `:ttl` configuration option is required for PowRedisCache"
    assert {output, 0} = mix(app, ["compile"], environment)
    refute output =~ "cargo"
  end

  defp mix(folder, arguments, environment \\ []) do
    # Crates that were compiled for the tests' own library need not be compiled again.
    target = Path.join(@root, "_build/cargo/pow_redis_cache")

    environment = [
      {"CARGO_TARGET_DIR", target},
      {"MIX_ENV", "dev"},
      {"MIX_BUILD_PATH", nil} | environment
    ]

    System.cmd("mix", arguments, cd: folder, env: environment, stderr_to_stdout: true)
  end

  defp without_cargo do
    folders = "PATH" |> System.get_env() |> String.split(":")
    [{"PATH", folders |> Enum.reject(&File.exists?(Path.join(&1, "cargo"))) |> Enum.join(":")}]
  end

  defp with_cargo(folder, version) do
    bin = Path.join(folder, "bin")
    File.mkdir_p!(bin)
    File.write!(Path.join(bin, "cargo"), "#!/bin/sh\necho '#{version}'\n")
    File.chmod!(Path.join(bin, "cargo"), 0o755)
    [{"PATH", bin <> ":" <> System.get_env("PATH")}]
  end
end
