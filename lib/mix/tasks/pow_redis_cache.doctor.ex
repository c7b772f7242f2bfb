defmodule Mix.Tasks.PowRedisCache.Doctor do
  @shortdoc "Checks everything between the app and its sessions in Redis"

  @moduledoc """
  Checks everything between the app and its sessions in Redis, and reports how to fix problems. See
  `PowRedisCache.Doctor`.

      mix pow_redis_cache.doctor
      mix pow_redis_cache.doctor --name MyApp.AdminSessions
      mix pow_redis_cache.doctor --url rediss://localhost:6379 --cacertfile ca.pem

  Starts the app, and checks its running instances and its configuration of Pow. With `--url`, checks that server without starting
  the app. The exit status is 1 if a check failed (`✗`), or else 0.

    * `--name` - the instance to check. Defaults to all instances.
    * `--url` - the server to check: `redis://[[user]:password@]host[:port][/database]`, `rediss://…` for
      TLS, or `unix:///path`. While the command runs, other users of this machine can see the URL and
      its password in the process list.
    * `--no-verify` - accept any certificate, like `verify: :verify_none`.
    * `--cacertfile` - a PEM file with the trusted certificate authorities, instead of the system's.

  In a release, use `bin/my_app rpc "PowRedisCache.Doctor.run()"`.
  """

  use Mix.Task

  alias PowRedisCache.{Doctor, MixTask}

  @switches [url: :string, name: :string, verify: :boolean, cacertfile: :string]

  @impl true
  def run(arguments) do
    options = options!(arguments)
    # With --url, loads the code without starting the app.
    Mix.Task.run(if(options[:url], do: "loadpaths", else: "app.start"))
    if Doctor.run(options) == :error, do: exit({:shutdown, 1})
  end

  defp options!(arguments) do
    case OptionParser.parse(arguments, strict: @switches) do
      {given, [], []} -> Enum.map(given, &option/1) |> one_target!()
      # Shows the switch alone, since its value may be a URL with a password.
      {_given, [], [{switch, _value} | _]} -> wrong!(switch)
      {_given, [_ | _], _invalid} -> wrong!("an argument without a switch")
    end
  end

  defp option({:name, name}), do: {:name, MixTask.instance(name)}
  defp option({:verify, true}), do: {:verify, :verify_peer}
  defp option({:verify, false}), do: {:verify, :verify_none}
  defp option(option), do: option

  defp one_target!(options) do
    case {Keyword.has_key?(options, :url), Keyword.delete(options, :name)} do
      {true, _options} ->
        Keyword.delete(options, :name)

      {false, []} ->
        options

      {false, _options} ->
        Mix.raise("expected --no-verify and --cacertfile only together with --url")
    end
  end

  defp wrong!(what) do
    Mix.raise("expected --url URL, --name NAME, --no-verify or --cacertfile FILE, got: #{what}")
  end
end
