defmodule Mix.Tasks.Compile.PowRedisCache do
  @moduledoc false
  # Builds the NIF with cargo. Lives outside lib/, since it has to exist before lib/ is compiled.
  #
  # Cargo runs only when the Rust sources differ from those that the library in priv/native was
  # built from. They are compared by content: a folder that was moved, or a machine that has the
  # library and no cargo, needs no build.

  use Mix.Task.Compiler

  @root Path.expand("..", __DIR__)
  @folder Path.join(@root, "priv/native")
  @library Path.join(@folder, "pow_redis_nif.so")
  @manifest Path.join(@folder, "pow_redis_nif.sources")

  @impl true
  def run(_args) do
    sources = digest()

    status =
      if File.regular?(@library) and File.read(@manifest) == {:ok, sources} do
        :noop
      else
        build()
        File.write!(@manifest, sources)
        :ok
      end

    # priv did not exist yet when Mix linked it into the build folder.
    Mix.Project.build_structure()
    {status, []}
  end

  @impl true
  def manifests, do: [@manifest]

  @impl true
  def clean do
    File.rm_rf!(@folder)
    # A folder that the environment names may hold more than ours.
    File.rm_rf!(own_target())
  end

  defp build do
    cargo = find_cargo()
    Mix.shell().info("Compiling the native library of pow_redis_cache (cargo build --release)")

    {_output, status} =
      System.cmd(
        cargo,
        ["build", "--release", "--locked", "--package", "pow_redis_nif"],
        cd: @root,
        env: [{"CARGO_TARGET_DIR", target()}],
        into: IO.stream(:stdio, :line),
        stderr_to_stdout: true
      )

    if status != 0 do
      Mix.raise("cargo could not build the native library of pow_redis_cache; it says why above")
    end

    install(Path.join([target(), "release", built_name()]))
  end

  # A VM that runs has the old file mapped: it is replaced, never written to.
  defp install(built) do
    File.mkdir_p!(@folder)
    new = @library <> ".new"
    File.cp!(built, new)
    File.rename!(new, @library)
  end

  defp find_cargo do
    needed = needed_version()

    cargo =
      System.find_executable("cargo") ||
        Mix.raise("""
        pow_redis_cache is built with Rust, and there is no cargo on this machine's PATH. Install \
        Rust #{needed} or later (https://rustup.rs) and run this command again. On Heroku, add a \
        Rust buildpack in front of the Elixir one.\
        """)

    {output, _status} = System.cmd(cargo, ["--version"], cd: @root, stderr_to_stdout: true)

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

  defp needed_version do
    [_, version] =
      Regex.run(~r/^rust-version = "(\d+\.\d+)"$/m, File.read!(Path.join(@root, "Cargo.toml")))

    version <> ".0"
  end

  defp target, do: System.get_env("CARGO_TARGET_DIR") || own_target()

  # One for all environments of the project that is built, whether this is it or a dependency.
  defp own_target do
    Path.join([Path.dirname(Mix.Project.build_path()), "cargo", "pow_redis_cache"])
  end

  defp built_name do
    case :os.type() do
      {:unix, :darwin} -> "libpow_redis_nif.dylib"
      {:unix, _} -> "libpow_redis_nif.so"
    end
  end

  defp digest do
    ["Cargo.toml", "Cargo.lock", "native/*/Cargo.toml", "native/*/src/**/*.rs"]
    |> Enum.flat_map(&Path.wildcard(Path.join(@root, &1)))
    |> Enum.map(&[Path.relative_to(&1, @root), 0, File.read!(&1), 0])
    |> then(&:crypto.hash(:sha256, [architecture(), 0 | &1]))
    |> Base.encode16(case: :lower)
  end

  defp architecture, do: List.to_string(:erlang.system_info(:system_architecture))
end
