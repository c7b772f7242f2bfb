defmodule PowRedisCache.PrebuiltTest do
  # Prebuilt libraries: making, using and rejecting one.
  use ExUnit.Case, async: true

  @moduletag :integration

  # A build may take minutes.
  @moduletag timeout: :infinity

  import PowRedisCache.Build

  alias PowRedisCache.NativeLibrary
  alias PowRedisCache.NativeLibrary.Prebuilt
  alias PowRedisCache.RedisServer

  # The target in a file name.
  @target ~r/(x86_64|aarch64)-[a-z-]+(?=-[0-9a-f]{12})/

  setup_all do
    [prebuilt: prebuild!(Path.join(folder!(), "prebuilt"))]
  end

  setup do
    [folder: folder!()]
  end

  test "the file name and the checksum identify the library", %{prebuilt: prebuilt} do
    assert [_, target] =
             Regex.run(
               ~r/^pow_redis_nif-0\.1\.0-nif-2\.15-(.+)-[0-9a-f]{12}\.so$/,
               Path.basename(prebuilt)
             )

    assert target =~ ~r/^(x86_64|aarch64)-(unknown-linux-(gnu|musl)|apple-darwin)$/

    assert File.read!(prebuilt <> ".sha256") ==
             NativeLibrary.sha256(File.read!(prebuilt)) <> "  " <> Path.basename(prebuilt) <> "\n"
  end

  test "a build uses the file in POW_REDIS_CACHE_PREBUILT without cargo", %{
    prebuilt: prebuilt,
    folder: folder
  } do
    package = copy_package!(Path.join(folder, "package"))
    environment = [{"POW_REDIS_CACHE_PREBUILT", prebuilt} | without_cargo()]
    assert {output, 0} = mix(package, ["compile"], environment)
    assert output =~ "Using the prebuilt native library of pow_redis_cache, #{prebuilt}"
    assert File.read!(Path.join(package, "priv/native/pow_redis_nif.so")) == File.read!(prebuilt)

    # An installed library is not read again.
    environment = [{"POW_REDIS_CACHE_PREBUILT", "/nonexistent"} | without_cargo()]
    assert {output, 0} = mix(package, ["compile", "--force"], environment)
    refute output =~ "prebuilt"
  end

  test "an app's build uses the library in the configured folder", %{
    prebuilt: prebuilt,
    folder: folder
  } do
    package = copy_package!(Path.join(folder, "package"))
    app = copy_app!(Path.join(folder, "app"))
    File.cp_r!(Path.dirname(prebuilt), Path.join(app, "vendor/native"))
    File.mkdir_p!(Path.join(app, "config"))

    File.write!(Path.join(app, "config/config.exs"), """
    import Config
    config :pow_redis_cache, prebuilt: "vendor/native"
    """)

    url = RedisServer.url(:persistent_term.get(RedisServer))
    environment = [{"PACKAGE", "path:#{package}"} | without_cargo()]
    assert {output, 0} = mix(app, ["run", "-e", "App.run(#{inspect(url)})"], environment)

    assert output =~
             "Using the prebuilt native library of pow_redis_cache, #{app}/vendor/native/"

    assert output =~ "App ran."

    File.write!(Path.join(app, "config/config.exs"), """
    import Config
    config :pow_redis_cache, prebuilt: :native
    """)

    File.rm_rf!(Path.join(package, "priv"))
    assert {output, status} = mix(app, ["deps.compile", "--force"], environment)
    assert status != 0
    assert output =~ "expected config :pow_redis_cache, prebuilt: to be a path, got: :native"
  end

  test "a build from other sources rejects the library", %{prebuilt: prebuilt, folder: folder} do
    package = copy_package!(Path.join(folder, "package"))
    source = Path.join(package, "native/pow_redis_core/src/lib.rs")
    File.write!(source, File.read!(source) <> "\n// changed\n")
    environment = [{"POW_REDIS_CACHE_PREBUILT", prebuilt} | without_cargo()]
    assert {output, status} = mix(package, ["compile"], environment)
    assert status != 0

    assert output =~
             ~r/is built from other Rust sources \([0-9a-f]{12}\) than this package \([0-9a-f]{12}\)/

    refute File.exists?(Path.join(package, "priv/native/pow_redis_nif.so"))
  end

  describe "a library is rejected if it" do
    setup %{prebuilt: prebuilt, folder: folder} do
      copy = Path.join(folder, Path.basename(prebuilt))
      File.cp!(prebuilt, copy)
      File.cp!(prebuilt <> ".sha256", copy <> ".sha256")
      [copy: copy, name: Path.basename(copy)]
    end

    test "does not exist", %{folder: folder} do
      assert rejection(Path.join(folder, "none")) =~ "#{folder}/none does not exist."
    end

    test "is for another target", %{folder: folder, copy: copy} do
      other = rename(copy, @target, "riscv64-unknown-linux-gnu")
      assert rejection(other) =~ "is for riscv64-unknown-linux-gnu, but this machine is "
      message = rejection(folder)
      assert message =~ ~r/#{folder} has no library for (x86_64|aarch64)-/
      assert message =~ "Available: #{Path.basename(other)}."
    end

    test "is missing in a folder that has its checksum", %{folder: folder, copy: copy} do
      File.rm!(copy)
      assert rejection(folder) =~ "Available: none."
    end

    test "belongs to another version of the package", %{folder: folder, copy: copy} do
      other = rename(copy, "-0.1.0-", "-0.0.9-")
      assert rejection(other) =~ "is for pow_redis_cache 0.0.9, but this is 0.1.0."
      # The same for a folder.
      assert rejection(folder) =~ "#{other} is for pow_redis_cache 0.0.9, but this is 0.1.0."
    end

    test "needs a later VM", %{copy: copy} do
      vm = List.to_string(:erlang.system_info(:nif_version))
      assert vm =~ ~r/^2\.\d+$/
      later = rename(copy, "-nif-2.15-", "-nif-2.99-")
      assert rejection(later) =~ "is for NIF version 2.99, but this Erlang VM has #{vm}."
      other = rename(later, "-nif-2.99-", "-nif-3.0-")
      assert rejection(other) =~ "is for NIF version 3.0, but this Erlang VM has #{vm}."
    end

    test "was built from other sources", %{copy: copy} do
      other = rename(copy, ~r/[0-9a-f]{12}\.so$/, "0123456789ab.so")
      assert rejection(other) =~ "is built from other Rust sources (0123456789ab) than this"
    end

    test "has another name", %{folder: folder, copy: copy} do
      other = Path.join(folder, "pow_redis_nif.so")
      File.rename!(copy, other)

      assert rejection(other) =~
               "is not the file name of a prebuilt library."
    end

    test "has no checksum", %{copy: copy, name: name} do
      File.rm!(copy <> ".sha256")
      assert rejection(copy) =~ "has no checksum: expected #{name}.sha256 in the same folder."
    end

    test "has the checksum of another file, or an empty one", %{copy: copy, name: name} do
      expected = "has no checksum: expected #{name}.sha256 to contain `SHA-256  #{name}`."
      File.write!(copy <> ".sha256", String.duplicate("0", 64) <> "  other.so\n")
      assert rejection(copy) =~ expected
      File.write!(copy <> ".sha256", "")
      assert rejection(copy) =~ expected
    end

    test "is damaged", %{copy: copy, name: name} do
      right = NativeLibrary.sha256(File.read!(copy))
      File.write!(copy, "x", [:append])
      wrong = NativeLibrary.sha256(File.read!(copy))

      assert rejection(copy) =~
               "is corrupt: #{name}.sha256 has SHA-256 #{right}, but that of the file is #{wrong}."
    end

    test "does not exist, and the error names the expected files and the fix", %{
      folder: folder,
      name: name
    } do
      assert rejection(Path.join(folder, "none")) == """
             cannot use the prebuilt library of pow_redis_cache from POW_REDIS_CACHE_PREBUILT: \
             #{folder}/none does not exist.
             Expected #{name} and #{name}.sha256. Build them with `mix pow_redis_cache.prebuild` \
             on a similar machine with Rust, or remove the setting to build with cargo.\
             """
    end
  end

  describe "mix pow_redis_cache.prebuild" do
    test "works in an app that depends on the package, for this machine and another", %{
      prebuilt: prebuilt,
      folder: folder
    } do
      package = copy_package!(Path.join(folder, "package"))
      app = copy_app!(Path.join(folder, "app"))

      # A fake cargo: BuildTest covers the real one.
      cargo =
        with_cargo(folder, """
        if [ "$1" = --version ]; then echo "cargo 99.0.0"; exit; fi
        release="$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release"
        mkdir -p "$release"
        for ending in so dylib; do cp #{prebuilt} "$release/libpow_redis_nif.$ending"; done
        """)

      environment = [{"PACKAGE", "path:#{package}"}, {"CARGO_TARGET_DIR", nil} | cargo]
      name = Path.basename(prebuilt)
      assert {output, 0} = mix(app, ["pow_redis_cache.prebuild"], environment)
      assert output =~ "Wrote prebuilt/#{name} and prebuilt/#{name}.sha256"
      assert File.read!(Path.join([app, "prebuilt", name])) == File.read!(prebuilt)

      arguments = ["--target", "riscv64gc-unknown-linux-musl", "--output", "other"]
      assert {_output, 0} = mix(app, ["pow_redis_cache.prebuild" | arguments], environment)
      other = String.replace(name, @target, "riscv64gc-unknown-linux-musl")
      assert Enum.sort(File.ls!(Path.join(app, "other"))) == [other, other <> ".sha256"]

      refute File.exists?(Path.join(app, "_build/cargo/pow_redis_cache"))
      assert {output, 1} = mix(app, ["pow_redis_cache.prebuild", "linux"], environment)
      assert output =~ "expected only --output and --target, got: linux"
    end
  end

  defp rejection(path) do
    assert_raise(Mix.Error, fn -> Prebuilt.read({"POW_REDIS_CACHE_PREBUILT", path}) end).message
  end

  defp rename(file, what, by) do
    other =
      Path.join(Path.dirname(file), String.replace(Path.basename(file), what, by, global: false))

    assert other != file
    File.rename!(file, other)
    File.rename!(file <> ".sha256", other <> ".sha256")
    other
  end
end
