defmodule PowRedisCache.PrebuiltTest do
  # Libraries that were built elsewhere: how one is made, taken, and refused.
  use ExUnit.Case, async: true

  @moduletag :integration

  # A slow machine builds for long.
  @moduletag timeout: :infinity

  import PowRedisCache.Build

  alias PowRedisCache.NativeLibrary
  alias PowRedisCache.NativeLibrary.Prebuilt
  alias PowRedisCache.RedisServer

  # In a name.
  @target ~r/(x86_64|aarch64)-[a-z-]+(?=-[0-9a-f]{12})/

  setup_all do
    [prebuilt: prebuild!(Path.join(folder!(), "prebuilt"))]
  end

  setup do
    [folder: folder!()]
  end

  test "its name and its checksum say what it is", %{prebuilt: prebuilt} do
    assert [_, target] =
             Regex.run(
               ~r/^pow_redis_nif-0\.1\.0-nif-2\.15-(.+)-[0-9a-f]{12}\.so$/,
               Path.basename(prebuilt)
             )

    assert target =~ ~r/^(x86_64|aarch64)-(unknown-linux-(gnu|musl)|apple-darwin)$/

    assert File.read!(prebuilt <> ".sha256") ==
             NativeLibrary.sha256(File.read!(prebuilt)) <> "  " <> Path.basename(prebuilt) <> "\n"
  end

  test "a build takes the file that the environment names, and needs no cargo", %{
    prebuilt: prebuilt,
    folder: folder
  } do
    package = copy_package!(Path.join(folder, "package"))
    environment = [{"POW_REDIS_CACHE_PREBUILT", prebuilt} | without_cargo()]
    assert {output, 0} = mix(package, ["compile"], environment)
    assert output =~ "Taking the prebuilt native library of pow_redis_cache, #{prebuilt}"
    assert File.read!(Path.join(package, "priv/native/pow_redis_nif.so")) == File.read!(prebuilt)

    # Once it is there, nobody asks for it again.
    environment = [{"POW_REDIS_CACHE_PREBUILT", "/nonexistent"} | without_cargo()]
    assert {output, 0} = mix(package, ["compile", "--force"], environment)
    refute output =~ "prebuilt"
  end

  test "an app's build takes it from the folder that the configuration names", %{
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
             "Taking the prebuilt native library of pow_redis_cache, #{app}/vendor/native/"

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

  test "a build from other sources refuses it", %{prebuilt: prebuilt, folder: folder} do
    package = copy_package!(Path.join(folder, "package"))
    source = Path.join(package, "native/pow_redis_core/src/lib.rs")
    File.write!(source, File.read!(source) <> "\n// changed\n")
    environment = [{"POW_REDIS_CACHE_PREBUILT", prebuilt} | without_cargo()]
    assert {output, status} = mix(package, ["compile"], environment)
    assert status != 0

    assert output =~
             ~r/is built from other Rust sources \([0-9a-f]{12}\) than those that are here \([0-9a-f]{12}\)/

    refute File.exists?(Path.join(package, "priv/native/pow_redis_nif.so"))
  end

  describe "a library is refused that" do
    setup %{prebuilt: prebuilt, folder: folder} do
      copy = Path.join(folder, Path.basename(prebuilt))
      File.cp!(prebuilt, copy)
      File.cp!(prebuilt <> ".sha256", copy <> ".sha256")
      [copy: copy, name: Path.basename(copy)]
    end

    test "is missing", %{folder: folder} do
      assert refusal(Path.join(folder, "none")) =~ "#{folder}/none does not exist."
    end

    test "is for another target", %{folder: folder, copy: copy} do
      other = rename(copy, @target, "riscv64-unknown-linux-gnu")
      assert refusal(other) =~ "is for riscv64-unknown-linux-gnu, and this machine is "
      message = refusal(folder)
      assert message =~ ~r/#{folder} has no library for (x86_64|aarch64)-/
      assert message =~ "Libraries in it: #{Path.basename(other)}."
    end

    test "is alone missing in a folder", %{folder: folder, copy: copy} do
      File.rm!(copy)
      assert refusal(folder) =~ "Libraries in it: none."
    end

    test "is of another version of the package", %{folder: folder, copy: copy} do
      other = rename(copy, "-0.1.0-", "-0.0.9-")
      assert refusal(other) =~ "is of pow_redis_cache 0.0.9, and this is 0.1.0."
      # Also where a folder is named.
      assert refusal(folder) =~ "#{other} is of pow_redis_cache 0.0.9, and this is 0.1.0."
    end

    test "is for a later VM", %{copy: copy} do
      vm = List.to_string(:erlang.system_info(:nif_version))
      assert vm =~ ~r/^2\.\d+$/
      later = rename(copy, "-nif-2.15-", "-nif-2.99-")
      assert refusal(later) =~ "is for NIF version 2.99, and this Erlang VM has #{vm}."
      other = rename(later, "-nif-2.99-", "-nif-3.0-")
      assert refusal(other) =~ "is for NIF version 3.0, and this Erlang VM has #{vm}."
    end

    test "is built from other sources", %{copy: copy} do
      other = rename(copy, ~r/[0-9a-f]{12}\.so$/, "0123456789ab.so")
      assert refusal(other) =~ "is built from other Rust sources (0123456789ab) than those"
    end

    test "has another name", %{folder: folder, copy: copy} do
      other = Path.join(folder, "pow_redis_nif.so")
      File.rename!(copy, other)

      assert refusal(other) =~
               "does not have the name of a prebuilt library, which says what it is."
    end

    test "has no checksum", %{copy: copy, name: name} do
      File.rm!(copy <> ".sha256")
      assert refusal(copy) =~ "has no checksum: expected #{name}.sha256 beside it."
    end

    test "has another file's checksum, or none in the file", %{copy: copy, name: name} do
      expected = "has no checksum: expected #{name}.sha256 to hold `SHA-256  #{name}`."
      File.write!(copy <> ".sha256", String.duplicate("0", 64) <> "  other.so\n")
      assert refusal(copy) =~ expected
      File.write!(copy <> ".sha256", "")
      assert refusal(copy) =~ expected
    end

    test "is damaged", %{copy: copy, name: name} do
      right = NativeLibrary.sha256(File.read!(copy))
      File.write!(copy, "x", [:append])
      wrong = NativeLibrary.sha256(File.read!(copy))

      assert refusal(copy) =~
               "is damaged: its SHA-256 should be #{right}, says #{name}.sha256, and is #{wrong}."
    end

    test "and it is said what is expected and what to do", %{folder: folder, name: name} do
      assert refusal(Path.join(folder, "none")) == """
             POW_REDIS_CACHE_PREBUILT names a prebuilt library of pow_redis_cache that cannot be \
             used: #{folder}/none does not exist.
             Expected #{name} and #{name}.sha256. Make them with `mix pow_redis_cache.prebuild` \
             on a machine like this one that has Rust, or take the setting away to build here \
             with cargo.\
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

      # It takes the library for built; the tests of the build build it.
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
      assert output =~ "Made prebuilt/#{name} and prebuilt/#{name}.sha256"
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

  defp refusal(path) do
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
