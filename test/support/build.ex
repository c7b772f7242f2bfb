defmodule PowRedisCache.Build do
  @moduledoc """
  Building the package and apps that depend on it, in folders of their own and with VMs of their own.
  """

  import ExUnit.Callbacks, only: [on_exit: 1]

  @root Path.expand("../..", __DIR__)

  @doc "An empty folder that goes when the test ends."
  @spec folder!() :: Path.t()
  def folder! do
    name = "pow_redis_cache_build_#{System.unique_integer([:positive])}_#{System.pid()}"
    folder = Path.join(System.tmp_dir!(), name)
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end

  @doc "Copies the files of the package, as Hex ships them: no other is needed to build it."
  @spec copy_package!(Path.t()) :: Path.t()
  def copy_package!(folder) do
    for pattern <- Mix.Project.config()[:package][:files],
        path <- Path.wildcard(Path.join(@root, pattern), match_dot: true) do
      target = Path.join(folder, Path.relative_to(path, @root))
      File.mkdir_p!(Path.dirname(target))
      File.cp_r!(path, target)
    end

    folder
  end

  @doc "Makes a git repository of a folder."
  @spec git_init!(Path.t()) :: :ok
  def git_init!(folder) do
    for arguments <- [
          ["init", "-q"],
          ["add", "-A"],
          ["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "package"]
        ] do
      {_output, 0} = System.cmd("git", arguments, cd: folder, stderr_to_stdout: true)
    end

    :ok
  end

  @doc "Copies the app of the fixtures, which depends on the package and on what stands for Pow."
  @spec copy_app!(Path.t()) :: Path.t()
  def copy_app!(folder) do
    File.cp_r!(Path.join(@root, "test/fixtures/app"), folder)
    File.mkdir_p!(Path.join(folder, "vendor"))
    File.cp_r!(Path.join(@root, "test/fixtures/pow"), Path.join(folder, "vendor/pow"))
    folder
  end

  @doc "Runs mix, in `MIX_ENV=dev` if the environment does not say otherwise."
  @spec mix(Path.t(), [String.t()], [{String.t(), String.t() | nil}]) ::
          {String.t(), non_neg_integer()}
  def mix(folder, arguments, environment \\ []) do
    environment =
      Enum.reduce(environment, defaults(), fn {name, value}, all -> Map.put(all, name, value) end)

    System.cmd("mix", arguments, cd: folder, env: environment, stderr_to_stdout: true)
  end

  @doc """
  Copies cargo's target folder, in which the tests' own library is built: crates that were compiled for it
  need not be compiled again. Waits for builds that are under way, as cargo itself does.
  """
  @spec copy_target!(Path.t()) :: :ok
  def copy_target!(folder) do
    lock = Path.join(target(), "release/.cargo-lock")
    {_output, 0} = System.cmd("flock", [lock, "cp", "-pR", target(), folder])
    :ok
  end

  @doc "Makes a prebuilt library for this machine; the path of the file."
  @spec prebuild!(Path.t()) :: Path.t()
  def prebuild!(folder) do
    {_output, 0} =
      mix(@root, ["pow_redis_cache.prebuild", "--output", folder], [{"MIX_ENV", "test"}])

    [file] = Path.wildcard(Path.join(folder, "*.so"))
    file
  end

  @doc "An environment without cargo: not on the path, and no home of its crates."
  @spec without_cargo() :: [{String.t(), String.t()}]
  def without_cargo do
    folders = "PATH" |> System.get_env() |> String.split(":")
    path = folders |> Enum.reject(&File.exists?(Path.join(&1, "cargo"))) |> Enum.join(":")
    [{"PATH", path}, {"CARGO_HOME", "/nonexistent"}]
  end

  @doc "An environment whose cargo is a shell script."
  @spec with_cargo(Path.t(), String.t()) :: [{String.t(), String.t()}]
  def with_cargo(folder, script) do
    bin = Path.join(folder, "bin")
    File.mkdir_p!(bin)
    File.write!(Path.join(bin, "cargo"), "#!/bin/sh\n#{script}\n")
    File.chmod!(Path.join(bin, "cargo"), 0o755)
    [{"PATH", bin <> ":" <> System.get_env("PATH")}]
  end

  @doc """
  What lies in a folder: each path with all that a write would change. Sees writes of root too, whom
  no permission stops.
  """
  @spec tree(Path.t()) :: %{Path.t() => term()}
  def tree(folder) do
    for path <- Path.wildcard(Path.join(folder, "**"), match_dot: true), into: %{} do
      %{type: type, inode: inode, mtime: mtime, size: size} = File.lstat!(path)
      content = if type == :regular, do: :erlang.md5(File.read!(path))
      {Path.relative_to(path, folder), {type, inode, mtime, size, content}}
    end
  end

  @doc "The paths that differ between two trees."
  @spec changes(map(), map()) :: [Path.t()]
  def changes(before, later) do
    for path <- Enum.uniq(Map.keys(before) ++ Map.keys(later)),
        before[path] != later[path],
        do: path
  end

  defp target, do: Path.join(@root, "_build/cargo/pow_redis_cache")

  defp defaults do
    %{
      "CARGO_TARGET_DIR" => target(),
      "MIX_ENV" => "dev",
      "MIX_BUILD_PATH" => nil,
      "POW_REDIS_CACHE_PREBUILT" => nil,
      "POW" => "vendor/pow"
    }
  end
end
