defmodule PowRedisCache.Build do
  @moduledoc """
  Builds the package and apps that depend on it, in temporary folders and in separate VMs.
  """

  import ExUnit.Callbacks, only: [on_exit: 1]

  @root Path.expand("../..", __DIR__)

  @doc "Makes an empty folder that is removed when the test ends."
  @spec folder!() :: Path.t()
  def folder! do
    name = "pow_redis_cache_build_#{System.unique_integer([:positive])}_#{System.pid()}"
    folder = Path.join(System.tmp_dir!(), name)
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end

  @doc "Copies the files that Hex ships. The build must not need any others."
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

  @doc "Commits the contents of a folder to a new git repository."
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

  @doc "Copies the fixture app, which depends on the package and on a stub of Pow."
  @spec copy_app!(Path.t()) :: Path.t()
  def copy_app!(folder) do
    File.cp_r!(Path.join(@root, "test/fixtures/app"), folder)
    File.mkdir_p!(Path.join(folder, "vendor"))
    File.cp_r!(Path.join(@root, "test/fixtures/pow"), Path.join(folder, "vendor/pow"))
    folder
  end

  @doc "Runs mix, with `MIX_ENV=dev` unless `environment` overrides it."
  @spec mix(Path.t(), [String.t()], [{String.t(), String.t() | nil}]) ::
          {String.t(), non_neg_integer()}
  def mix(folder, arguments, environment \\ []) do
    environment =
      Enum.reduce(environment, defaults(), fn {name, value}, all -> Map.put(all, name, value) end)

    System.cmd("mix", arguments, cd: folder, env: environment, stderr_to_stdout: true)
  end

  @doc """
  Copies cargo's target folder of the test run, so that crates are not compiled again. Waits for running
  builds to finish, as cargo itself does.
  """
  @spec copy_target!(Path.t()) :: :ok
  def copy_target!(folder) do
    lock = Path.join(target(), "release/.cargo-lock")
    {_output, 0} = System.cmd("flock", [lock, "cp", "-pR", target(), folder])
    :ok
  end

  @doc "Makes a prebuilt library for this machine and returns its path."
  @spec prebuild!(Path.t()) :: Path.t()
  def prebuild!(folder) do
    {_output, 0} =
      mix(@root, ["pow_redis_cache.prebuild", "--output", folder], [{"MIX_ENV", "test"}])

    [file] = Path.wildcard(Path.join(folder, "*.so"))
    file
  end

  @doc "An environment without cargo, neither in `PATH` nor in `CARGO_HOME`."
  @spec without_cargo() :: [{String.t(), String.t()}]
  def without_cargo do
    folders = "PATH" |> System.get_env() |> String.split(":")
    path = folders |> Enum.reject(&File.exists?(Path.join(&1, "cargo"))) |> Enum.join(":")
    [{"PATH", path}, {"CARGO_HOME", "/nonexistent"}]
  end

  @doc "An environment in which `cargo` is a shell script."
  @spec with_cargo(Path.t(), String.t()) :: [{String.t(), String.t()}]
  def with_cargo(folder, script) do
    bin = Path.join(folder, "bin")
    File.mkdir_p!(bin)
    File.write!(Path.join(bin, "cargo"), "#!/bin/sh\n#{script}\n")
    File.chmod!(Path.join(bin, "cargo"), 0o755)
    [{"PATH", bin <> ":" <> System.get_env("PATH")}]
  end

  @doc """
  The contents of a folder: each path with everything that a write would change. Unlike read-only
  permissions, a comparison of two trees also catches writes by root.
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
