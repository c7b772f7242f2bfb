Code.require_file("cargo.ex", __DIR__)

defmodule PowRedisCache.NativeLibrary.Prebuilt do
  @moduledoc false
  # A library that was built on another machine, for one without Rust. Its name says what it is:
  #
  #     pow_redis_nif-VERSION-nif-NIF-TARGET-SOURCES.so
  #
  # with the package's version, the version of the NIF interface, the target as Rust names it, and the
  # first 12 digits of the digest of the Rust sources. Beside it lies its SHA-256, as `sha256sum`
  # writes it, under the same name and `.sha256`.

  alias PowRedisCache.NativeLibrary
  alias PowRedisCache.NativeLibrary.Cargo

  @variable "POW_REDIS_CACHE_PREBUILT"
  @name ~r/^pow_redis_nif-(?<version>.+)-nif-(?<nif>\d+\.\d+)-(?<target>.+)-(?<sources>[0-9a-f]{12})\.so$/

  @doc """
  What names a prebuilt library, and the path it gives: a file, or a folder with libraries for one or
  several targets. A relative path starts in the folder of the project that is built.
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

  @doc "The library that a setting names, if it is whole and fits this package and this machine."
  @spec read({String.t(), Path.t()}) :: binary()
  def read({setting, path}) do
    file = find(setting, path)
    refuse = &refuse(setting, file, &1)
    check_name(Path.basename(file), refuse)
    library = File.read!(file)
    check_sum(library, file, refuse)
    Mix.shell().info("Taking the prebuilt native library of pow_redis_cache, #{file}")
    library
  end

  @doc "Builds one for this machine or another target, and writes it and its checksum into a folder."
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
      true -> refuse(setting, path, "does not exist")
    end
  end

  # One for this machine that does not fit otherwise is found too: the checks say what is wrong.
  defp find_in(setting, folder) do
    names =
      folder |> Path.join("pow_redis_nif-*.so") |> Path.wildcard() |> Enum.map(&Path.basename/1)

    fits = name(host())

    found =
      if fits in names,
        do: fits,
        else: Enum.find(names, &(Regex.named_captures(@name, &1)["target"] == host()))

    if found do
      Path.join(folder, found)
    else
      there = if names == [], do: "none", else: Enum.join(names, ", ")
      refuse(setting, folder, "has no library for #{host()}. Libraries in it: #{there}")
    end
  end

  defp check_name(name, refuse) do
    parts =
      Regex.named_captures(@name, name) ||
        refuse.("does not have the name of a prebuilt library, which says what it is")

    %{"version" => version, "nif" => nif, "target" => target, "sources" => sources} = parts

    if target != host(), do: refuse.("is for #{target}, and this machine is #{host()}")

    unless loads?(nif) do
      refuse.("is for NIF version #{nif}, and this Erlang VM has #{vm_nif_version()}")
    end

    if version != NativeLibrary.version() do
      refuse.("is of pow_redis_cache #{version}, and this is #{NativeLibrary.version()}")
    end

    if sources != short_sources() do
      refuse.(
        "is built from other Rust sources (#{sources}) than those that are here (#{short_sources()})"
      )
    end
  end

  # As the VM decides it: the same major version, and no later minor version than its own.
  defp loads?(nif) do
    [[major, minor], [vm_major, vm_minor]] =
      for version <- [nif, vm_nif_version()],
          do: version |> String.split(".") |> Enum.map(&String.to_integer/1)

    major == vm_major and minor <= vm_minor
  end

  defp vm_nif_version, do: List.to_string(:erlang.system_info(:nif_version))

  defp check_sum(library, file, refuse) do
    name = Path.basename(file)
    has = NativeLibrary.sha256(library)

    with {:ok, text} <- File.read(file <> ".sha256"),
         [_, expected, ^name] <- Regex.run(~r/\A([0-9a-fA-F]{64}) [ *](.+)$/m, text) do
      if String.downcase(expected) != has do
        refuse.(
          "is damaged: its SHA-256 should be #{expected}, says #{name}.sha256, and is #{has}"
        )
      end
    else
      {:error, _reason} -> refuse.("has no checksum: expected #{name}.sha256 beside it")
      _other -> refuse.("has no checksum: expected #{name}.sha256 to hold `SHA-256  #{name}`")
    end
  end

  @spec refuse(String.t(), Path.t(), String.t()) :: no_return()
  defp refuse(setting, path, reason) do
    Mix.raise("""
    #{setting} names a prebuilt library of pow_redis_cache that cannot be used: #{path} #{reason}.
    Expected #{name(host())} and #{name(host())}.sha256. Make them with \
    `mix pow_redis_cache.prebuild` on a machine like this one that has Rust, or take the setting \
    away to build here with cargo.\
    """)
  end

  defp name(target) do
    "pow_redis_nif-#{NativeLibrary.version()}-nif-#{NativeLibrary.nif_version()}-#{target}-#{short_sources()}.so"
  end

  defp short_sources, do: binary_part(NativeLibrary.sources(), 0, 12)

  # This machine, as Rust names it: the VM says `x86_64-pc-linux-gnu`, `aarch64-apple-darwin24.1.0`.
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
