Code.require_file("native_library.ex", __DIR__)

defmodule PowRedisCache.NativeLibrary.Cargo do
  @moduledoc false
  # Builds the native library with cargo.

  alias PowRedisCache.NativeLibrary

  @doc "Builds the library for this machine or another target, and returns its bytes."
  @spec build(String.t() | nil) :: binary()
  def build(target \\ nil) do
    cargo = find()
    Mix.shell().info("Compiling the native library of pow_redis_cache (cargo build --release)")

    {_output, status} =
      System.cmd(
        cargo,
        ["build", "--release", "--locked", "--package", "pow_redis_nif"],
        cd: NativeLibrary.root(),
        env: [{"CARGO_TARGET_DIR", folder()}, {"CARGO_BUILD_TARGET", target}],
        into: IO.stream(:stdio, :line),
        stderr_to_stdout: true
      )

    if status != 0 do
      Mix.raise("building the native library failed, see cargo's output above")
    end

    library = File.read!(Path.join([folder(), target || "", "release", file_name(target)]))

    # A dependency is built once, and the build folder may be shipped, so it should not contain the
    # 170 MB of cargo's target folder. Within this package, the folder speeds up the next build.
    if NativeLibrary.project() != NativeLibrary.root(), do: clean()
    library
  end

  @doc "Removes cargo's target folder, but not that of CARGO_TARGET_DIR, which may be shared."
  @spec clean() :: :ok
  def clean do
    File.rm_rf!(own_folder())
    :ok
  end

  defp find do
    needed = NativeLibrary.rust_version()

    cargo =
      System.find_executable("cargo") ||
        Mix.raise("""
        cargo not found on the PATH. pow_redis_cache is built with Rust. Install Rust #{needed} or \
        later (https://rustup.rs) and run this command again. On Heroku, add a Rust buildpack \
        before the Elixir buildpack. Or set POW_REDIS_CACHE_PREBUILT to a prebuilt library, see \
        `mix help pow_redis_cache.prebuild`.\
        """)

    {output, _status} =
      System.cmd(cargo, ["--version"], cd: NativeLibrary.root(), stderr_to_stdout: true)

    case Regex.run(~r/^cargo (\d+\.\d+\.\d+)/m, output) do
      [_, version] ->
        if Version.compare(version, needed) == :lt do
          Mix.raise("""
          cargo #{version} is too old. pow_redis_cache needs Rust #{needed} or later. Update Rust \
          (rustup update) and run this command again.\
          """)
        end

      nil ->
        Mix.raise("""
        cannot determine the version of cargo. pow_redis_cache needs Rust #{needed} or later. \
        Output of `#{cargo} --version`: #{String.trim(output)}\
        """)
    end

    cargo
  end

  defp folder do
    case System.get_env("CARGO_TARGET_DIR") do
      nil -> own_folder()
      folder -> Path.expand(folder, NativeLibrary.root())
    end
  end

  # All environments of the project share one folder.
  defp own_folder do
    Path.join([Path.dirname(Mix.Project.build_path()), "cargo", "pow_redis_cache"])
  end

  defp file_name(target) do
    darwin? = if target, do: target =~ "-apple-", else: :os.type() == {:unix, :darwin}
    if darwin?, do: "libpow_redis_nif.dylib", else: "libpow_redis_nif.so"
  end
end
