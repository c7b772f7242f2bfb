defmodule PowRedisCache.NativeLibrary do
  @moduledoc false
  # The native library in priv/native, and whether it matches the Rust sources. This code is outside
  # lib/ because the Mix compiler needs it before lib/ is compiled.

  @root Path.expand("..", __DIR__)
  @folder Path.join(@root, "priv/native")
  @library Path.join(@folder, "pow_redis_nif.so")
  @stamp Path.join(@folder, "pow_redis_nif.sources")

  @sources [
    ".cargo/config.toml",
    "Cargo.toml",
    "Cargo.lock",
    "native/*/Cargo.toml",
    "native/*/src/**/*.rs"
  ]

  @doc "The folder of the package."
  @spec root() :: Path.t()
  def root, do: @root

  @doc "The folder of the project being built: this package, or the app that depends on it."
  @spec project() :: Path.t()
  def project, do: Path.dirname(Mix.Project.deps_path())

  @doc "The files that `install/1` writes and `current?/0` reads."
  @spec manifests() :: [Path.t()]
  def manifests, do: [@stamp]

  @doc """
  Whether the installed library is intact and matches the sources. Contents are compared, so that a
  moved folder, or a machine with the library but without cargo, needs no build.
  """
  @spec current?() :: boolean()
  def current? do
    with {:ok, library} <- File.read(@library), {:ok, stamp} <- File.read(@stamp) do
      stamp == stamp(library)
    else
      {:error, _reason} -> false
    end
  end

  @doc "Installs a library. Replaces the file instead of writing to it, since a running VM may have it mapped."
  @spec install(binary()) :: :ok
  def install(library) do
    File.mkdir_p!(@folder)
    new = @library <> ".new"
    File.write!(new, library)
    File.rename!(new, @library)
    File.write!(@stamp, stamp(library))
  end

  @doc "Removes the installed library."
  @spec clean() :: :ok
  def clean do
    File.rm_rf!(@folder)
    :ok
  end

  @doc "A digest of the Rust sources. It is the same on all machines."
  @spec sources() :: String.t()
  def sources do
    @sources
    |> Enum.flat_map(&Path.wildcard(Path.join(@root, &1)))
    |> Enum.map(&[Path.relative_to(&1, @root), 0, File.read!(&1), 0])
    |> sha256()
  end

  @doc "The version of the package."
  @spec version() :: String.t()
  def version, do: declared(~r/^version = "(.+)"$/m)

  @doc "The minimum version of Rust."
  @spec rust_version() :: String.t()
  def rust_version, do: declared(~r/^rust-version = "(.+)"$/m) <> ".0"

  @doc "The NIF version of the library. A VM with this or a later minor version loads it."
  @spec nif_version() :: String.t()
  def nif_version, do: ~r/"nif_version_(\d+_\d+)"/ |> declared() |> String.replace("_", ".")

  @doc "The SHA-256 of bytes, in hexadecimal."
  @spec sha256(iodata()) :: String.t()
  def sha256(bytes), do: :sha256 |> :crypto.hash(bytes) |> Base.encode16(case: :lower)

  defp stamp(library) do
    sha256([:erlang.system_info(:system_architecture), 0, sources(), 0, library])
  end

  defp declared(pattern) do
    [_, value] = Regex.run(pattern, File.read!(Path.join(@root, "Cargo.toml")))
    value
  end
end
