defmodule PowRedisCache.BuildTest do
  # Builds the package itself, and as a dependency of an app.
  use ExUnit.Case, async: true

  @moduletag :integration

  # A build may take minutes.
  @moduletag timeout: :infinity

  import PowRedisCache.Build

  alias PowRedisCache.{NativeLibrary, RedisServer}

  setup do
    folder = folder!()
    package = copy_package!(Path.join(folder, "package"))
    [folder: folder, package: package, app: copy_app!(Path.join(folder, "app"))]
  end

  test "runs cargo only if the Rust sources changed", %{package: package} do
    library = Path.join(package, "priv/native/pow_redis_nif.so")

    assert {output, 0} = mix(package, ["compile"])
    assert output =~ "cargo build --release"
    built = File.read!(library)

    # Neither of these builds needs cargo.
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

  test "rebuilds a damaged library and replaces its file", %{
    package: package
  } do
    library = Path.join(package, "priv/native/pow_redis_nif.so")
    assert {_output, 0} = mix(package, ["compile"])
    built = File.read!(library)
    File.write!(library, "half a library")
    {:ok, %{inode: before}} = File.stat(library)
    assert {_output, 0} = mix(package, ["compile"])
    assert {:ok, %{inode: later}} = File.stat(library)
    # A VM that has loaded the old file keeps it.
    assert later != before
    assert File.read!(library) == built
  end

  test "every pattern of the package's files matches, and the application has its version" do
    for pattern <- Mix.Project.config()[:package][:files] do
      assert Path.wildcard(Path.join(NativeLibrary.root(), pattern), match_dot: true) != [],
             pattern
    end

    version = Mix.Project.config()[:version]
    assert version == NativeLibrary.version()
    assert to_string(Application.spec(:pow_redis_cache, :vsn)) == version
  end

  test "fails without cargo and says what to install", %{package: package} do
    assert {output, status} = mix(package, ["compile"], without_cargo())
    assert status != 0
    assert output =~ "cargo not found on the PATH"
    assert output =~ ~r/Install Rust 1\.\d+\.0 or later \(https:\/\/rustup\.rs\)/
  end

  test "fails if cargo is too old", %{package: package, folder: folder} do
    assert {output, status} =
             mix(
               package,
               ["compile"],
               with_cargo(folder, "echo 'cargo 1.60.0 (d1fd9fe2c 2022-03-01)'")
             )

    assert status != 0
    assert output =~ ~r/cargo 1\.60\.0 is too old\. pow_redis_cache needs Rust 1\.\d+\.0 or later/

    assert {output, _status} =
             mix(package, ["compile"], with_cargo(folder, "echo 'no toolchain'"))

    assert output =~ ~r/cannot determine the version of cargo.* Output of `.*`: no toolchain/
  end

  test "Cargo and Mix have the same version" do
    assert NativeLibrary.version() == Mix.Project.config()[:version]
  end

  test "fails if the Rust sources do not compile", %{package: package} do
    source = Path.join(package, "native/pow_redis_nif/src/lib.rs")
    File.write!(source, "no rust")

    # cargo compares times: without this, a build that another test has started since would count.
    File.touch!(source, System.os_time(:second) + 3_600)
    assert {output, status} = mix(package, ["compile"])
    assert status != 0
    assert output =~ "building the native library failed, see cargo's output above"
    refute File.exists?(Path.join(package, "priv/native/pow_redis_nif.so"))
  end

  # As a git dependency: test/packaging/heroku_test.exs.
  test "works as a path dependency, with Pow", %{app: app, package: package} do
    server = :persistent_term.get(RedisServer)
    environment = [{"PACKAGE", "path:#{package}"}]
    assert {_output, 0} = mix(app, ["deps.get"], environment)
    assert {output, 0} = mix(app, ["compile"], environment)
    assert output =~ "cargo build --release"

    assert {output, 0} =
             mix(app, ["run", "-e", "App.run(\"#{RedisServer.url(server)}\")"], environment)

    assert output =~ "App ran. `:ttl` configuration option is required for PowRedisCache"
    assert {output, 0} = mix(app, ["compile"], environment)
    refute output =~ "cargo"
  end
end
