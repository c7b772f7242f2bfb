Code.require_file("cargo.ex", __DIR__)

defmodule PowRedisCache.NativeLibrary.Prebuilt do
  @moduledoc false
  # A library built on another machine, for machines without Rust. Its file name is
  #
  #     pow_redis_nif-VERSION-nif-NIF-TARGET-SOURCES.so
  #
  # with the package version, the NIF version, the Rust target triple, and the first 12 digits of the
  # digest of the Rust sources. Its checksum is in the file of the same name plus `.sha256`, in the
  # format of `sha256sum`.

  alias PowRedisCache.NativeLibrary
  alias PowRedisCache.NativeLibrary.Cargo

  @variable "POW_REDIS_CACHE_PREBUILT"
  @name ~r/^pow_redis_nif-(?<version>.+)-nif-(?<nif>\d+\.\d+)-(?<target>.+)-(?<sources>[0-9a-f]{12})\.so$/

  @doc """
  Returns the name of the setting that configures a prebuilt library, and its path: a file, or a
  folder with libraries for one or more targets. A relative path is relative to the folder of the
  project being built.
  """
  @spec setting() :: {String.t(), Path.t()} | nil
  def setting do
    from_environment = System.get_env(@variable, "")
    from_config = Application.get_env(:pow_redis_cache, :prebuilt)

    cond do
      from_environment != "" ->
        {@variable, Path.expand(from_environment, NativeLibrary.project())}

      from_config == nil ->
        nil

      true ->
        {"config :pow_redis_cache, prebuilt:", expand(from_config)}
    end
  end

  @doc "Returns the library of a setting. Raises unless it is intact and matches this package and machine."
  @spec read({String.t(), Path.t()}) :: binary()
  def read({setting, path}) do
    file = find(setting, path)
    reject = &reject(setting, file, &1)
    check_name(Path.basename(file), reject)
    library = File.read!(file)
    check_sum(library, file, reject)
    Mix.shell().info("Using the prebuilt native library of pow_redis_cache, #{file}")
    library
  end

  @doc "Builds a library for this machine or another target, and writes it and its checksum to a folder."
  @spec make(Path.t(), String.t() | nil) :: Path.t()
  def make(folder, target) do
    name = name(target || host())
    library = Cargo.build(target)
    File.mkdir_p!(folder)
    file = Path.join(folder, name)
    File.write!(file, library)
    File.write!(file <> ".sha256", "#{NativeLibrary.sha256(library)}  #{name}\n")
    file
  end

  defp expand(path) when is_binary(path), do: Path.expand(path, NativeLibrary.project())

  defp expand(other) do
    Mix.raise("expected config :pow_redis_cache, prebuilt: to be a path, got: #{inspect(other)}")
  end

  defp find(setting, path) do
    cond do
      File.dir?(path) -> find_in(setting, path)
      File.regular?(path) -> path
      true -> reject(setting, path, "does not exist")
    end
  end

  # Prefers an exact match. Otherwise returns any library for this target, so that the checks can name
  # the mismatch.
  defp find_in(setting, folder) do
    names =
      folder |> Path.join("pow_redis_nif-*.so") |> Path.wildcard() |> Enum.map(&Path.basename/1)

    exact = name(host())

    found =
      if exact in names,
        do: exact,
        else: Enum.find(names, &(Regex.named_captures(@name, &1)["target"] == host()))

    if found do
      Path.join(folder, found)
    else
      available = if names == [], do: "none", else: Enum.join(names, ", ")
      reject(setting, folder, "has no library for #{host()}. Available: #{available}")
    end
  end

  defp check_name(name, reject) do
    parts =
      Regex.named_captures(@name, name) ||
        reject.("is not the file name of a prebuilt library")

    %{"version" => version, "nif" => nif, "target" => target, "sources" => sources} = parts

    if target != host(), do: reject.("is for #{target}, but this machine is #{host()}")

    unless loads?(nif) do
      reject.("is for NIF version #{nif}, but this Erlang VM has #{vm_nif_version()}")
    end

    if version != NativeLibrary.version() do
      reject.("is for pow_redis_cache #{version}, but this is #{NativeLibrary.version()}")
    end

    if sources != short_sources() do
      reject.(
        "is built from other Rust sources (#{sources}) than this package (#{short_sources()})"
      )
    end
  end

  # The rule of the VM: the same major version, and no later minor version than its own.
  defp loads?(nif) do
    [[major, minor], [vm_major, vm_minor]] =
      for version <- [nif, vm_nif_version()],
          do: version |> String.split(".") |> Enum.map(&String.to_integer/1)

    major == vm_major and minor <= vm_minor
  end

  defp vm_nif_version, do: List.to_string(:erlang.system_info(:nif_version))

  defp check_sum(library, file, reject) do
    name = Path.basename(file)
    actual = NativeLibrary.sha256(library)

    with {:ok, text} <- File.read(file <> ".sha256"),
         [_, expected, ^name] <- Regex.run(~r/\A([0-9a-fA-F]{64}) [ *](.+)$/m, text) do
      if String.downcase(expected) != actual do
        reject.(
          "is corrupt: #{name}.sha256 has SHA-256 #{expected}, but that of the file is #{actual}"
        )
      end
    else
      {:error, _reason} -> reject.("has no checksum: expected #{name}.sha256 in the same folder")
      _other -> reject.("has no checksum: expected #{name}.sha256 to contain `SHA-256  #{name}`")
    end
  end

  @spec reject(String.t(), Path.t(), String.t()) :: no_return()
  defp reject(setting, path, reason) do
    Mix.raise("""
    cannot use the prebuilt library of pow_redis_cache from #{setting}: #{path} #{reason}.
    Expected #{name(host())} and #{name(host())}.sha256. Build them with \
    `mix pow_redis_cache.prebuild` on a similar machine with Rust, or remove the setting to build \
    with cargo.\
    """)
  end

  defp name(target) do
    "pow_redis_nif-#{NativeLibrary.version()}-nif-#{NativeLibrary.nif_version()}-#{target}-#{short_sources()}.so"
  end

  defp short_sources, do: binary_part(NativeLibrary.sources(), 0, 12)

  # The Rust target triple of this machine. The VM reports `x86_64-pc-linux-gnu` or
  # `aarch64-apple-darwin24.1.0`.
  defp host do
    architecture = List.to_string(:erlang.system_info(:system_architecture))
    [cpu | rest] = String.split(architecture, "-")
    cpu = if cpu in ["arm", "arm64"] and "apple" in rest, do: "aarch64", else: cpu

    cond do
      "apple" in rest -> "#{cpu}-apple-darwin"
      "linux" in rest -> "#{cpu}-unknown-linux-#{List.last(rest)}"
      true -> architecture
    end
  end
end
