defmodule PowRedisCache.TaskApp do
  @moduledoc "An app in which Mix tasks run. It uses the package as built for the tests."

  alias PowRedisCache.{Build, GeneratedApp}

  @doc "Makes an app that runs code when it starts. Returns its folder."
  @spec make!(String.t()) :: Path.t()
  def make!(code) do
    folder = Build.folder!()

    GeneratedApp.write(folder, %{
      "mix.exs" => """
      defmodule App.MixProject do
        use Mix.Project
        def project, do: [app: :app, version: "0.1.0"]
        def application, do: [mod: {App, []}, extra_applications: [:logger, :pow_redis_cache]]
      end
      """,
      "lib/app.ex" => """
      defmodule App do
        use Application
        def start(_type, _arguments) do
          #{code}
        end
      end
      """
    })

    folder
  end

  @doc "Runs a task. Returns its output and its exit status."
  @spec mix(Path.t(), [String.t()]) :: {String.t(), non_neg_integer()}
  def mix(folder, arguments) do
    {program, arguments} = command(folder, arguments)
    System.cmd(program, arguments, stderr_to_stdout: true)
  end

  @doc "The program that runs a task, and its arguments."
  @spec command(Path.t(), [String.t()]) :: {String.t(), [String.t()]}
  def command(folder, arguments) do
    built = Path.expand("..", Mix.Project.app_path())
    # env replaces itself with the VM, so that killing the process kills the VM.
    own = ["ERL_LIBS=#{built}", "MIX_ENV=dev", "mix"]
    {"env", ["--chdir", folder, "--unset", "MIX_BUILD_PATH" | own] ++ arguments}
  end
end
