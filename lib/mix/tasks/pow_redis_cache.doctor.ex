defmodule Mix.Tasks.PowRedisCache.Doctor do
  @shortdoc "Looks at what lies between the app and its sessions, and says what to do"

  @moduledoc """
  Looks at what lies between the app and its sessions in Redis, and says what to do.

      mix pow_redis_cache.doctor
      mix pow_redis_cache.doctor --name MyApp.AdminSessions
      mix pow_redis_cache.doctor --url rediss://localhost:6379 --cacertfile ca.pem

  Starts the app and examines the instances that run in it; with `--url`, examines that server without
  starting the app. Ends with status 1 where something does not work (`✗`), else with 0.

    * `--name` - the instance to examine, in place of all.
    * `--url` - the server to examine: `redis://[[user]:password@]host[:port][/database]`, `rediss://…` for
      TLS, or `unix:///path`. Others on this machine can see it while the command runs.
    * `--no-verify` - take any certificate, as `verify: :verify_none` does.
    * `--cacertfile` - authorities to trust, in PEM; else the system's.

  In a release, where there is no Mix, `bin/my_app rpc "PowRedisCache.Doctor.run()"` does the same.
  """

  use Mix.Task

  alias PowRedisCache.Doctor

  @switches [url: :string, name: :string, verify: :boolean, cacertfile: :string]

  @impl true
  def run(arguments) do
    options = options!(arguments)
    # What it needs of Mix alone, where the app is not to be started.
    Mix.Task.run(if(options[:url], do: "loadpaths", else: "app.start"))
    if Doctor.run(options) == :error, do: exit({:shutdown, 1})
  end

  defp options!(arguments) do
    case OptionParser.parse(arguments, strict: @switches) do
      {given, [], []} -> Enum.map(given, &option/1) |> one_subject!()
      # Its value may be a URL with a password.
      {_given, [], [{switch, _value} | _]} -> wrong!(switch)
      {_given, [_ | _], _invalid} -> wrong!("an argument without a switch")
    end
  end

  defp option({:name, name}), do: {:name, name(name)}
  defp option({:verify, true}), do: {:verify, :verify_peer}
  defp option({:verify, false}), do: {:verify, :verify_none}
  defp option(option), do: option

  defp name(":" <> name), do: String.to_atom(name)
  defp name(name), do: Module.concat([name])

  defp one_subject!(options) do
    case {Keyword.has_key?(options, :url), Keyword.delete(options, :name)} do
      {true, _options} -> Keyword.delete(options, :name)
      {false, []} -> options
      {false, _options} -> Mix.raise("expected --no-verify and --cacertfile together with --url")
    end
  end

  defp wrong!(what) do
    Mix.raise(
      "expected --url, --name, --no-verify and --cacertfile, each with its value, got: #{what}"
    )
  end
end
