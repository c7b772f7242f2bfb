Code.require_file("native_library.ex", __DIR__)

defmodule PowRedisCache.NativeLibrary.Cargo do
  @moduledoc false
  # Builds the native library with cargo.

  alias PowRedisCache.NativeLibrary

  @doc "Builds it, for this machine or another target, and returns it."
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
      Mix.raise("cargo could not build the native library of pow_redis_cache; it says why above")
    end

    library = File.read!(Path.join([folder(), target || "", "release", file_name(target)]))

    # A dependency is built once, and what is built may ship: the 170 MB that cargo made on the way
    # stay out of it. Who works on this package builds again and again.
    if NativeLibrary.project() != NativeLibrary.root(), do: clean()
    library
  end

  @doc "Removes what cargo made. A folder that the environment names may hold more than ours."
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
        pow_redis_cache is built with Rust, and there is no cargo on this machine's PATH. Install \
        Rust #{needed} or later (https://rustup.rs) and run this command again; on Heroku, add a \
        Rust buildpack in front of the Elixir one. Or name a prebuilt library with \
        POW_REDIS_CACHE_PREBUILT: `mix help pow_redis_cache.prebuild` says how to make one.\
        """)

    {output, _status} =
      System.cmd(cargo, ["--version"], cd: NativeLibrary.root(), stderr_to_stdout: true)

    case Regex.run(~r/^cargo (\d+\.\d+\.\d+)/m, output) do
      [_, version] ->
        if Version.compare(version, needed) == :lt do
          Mix.raise("""
          pow_redis_cache is built with Rust #{needed} or later, and this machine's cargo is \
          #{version}. Update it (rustup update) and run this command again.\
          """)
        end

      nil ->
        Mix.raise("""
        pow_redis_cache is built with Rust #{needed} or later, and `#{cargo} --version` does not \
        tell its version. It says: #{String.trim(output)}\
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

  # One for all environments of the project that is built.
  defp own_folder do
    Path.join([Path.dirname(Mix.Project.build_path()), "cargo", "pow_redis_cache"])
  end

  defp file_name(target) do
    darwin? = if target, do: target =~ "-apple-", else: :os.type() == {:unix, :darwin}
    if darwin?, do: "libpow_redis_nif.dylib", else: "libpow_redis_nif.so"
  end
end
