defmodule Mix.Tasks.PowRedisCache.Reindex do
  @shortdoc "Brings what lies in Redis into the form of pow_redis_cache"

  @moduledoc """
  Looks once at all keys in Redis: puts into the index what is missing there, and renames keys that
  Pow's guide wrote on Erlang/OTP 25 or earlier. See `PowRedisCache.reindex/1`.

      mix pow_redis_cache.reindex [--name MyApp.AdminSessions] [--dry-run]
      mix pow_redis_cache.reindex --url redis://localhost:6379 [--dry-run]

  Shows a bar on a terminal, and lines in a log. Safe on a live system, to interrupt, and to run
  again. The exit status is 0 when all keys were looked at, else 1.

  The app is started, and its instance used. In a release without Mix:

      bin/my_app rpc "PowRedisCache.reindex(progress: PowRedisCache.Progress.new()) |> inspect() |> IO.puts()"

  ## Options

    * `--name` - the instance, where it is not `PowRedisCache`.
    * `--dry-run` - writes nothing, and says what would be indexed and renamed.
    * `--url` - the URL of the Redis server. The app is not started, nor its configuration read. A
      password in it stands in the machine's list of processes while the task runs.
    * `--no-verify` - with `--url`: takes any certificate, as Heroku's need it.
    * `--no-index` - with `--url`: for an app that has `index: false`. Only renames.
  """

  use Mix.Task

  alias PowRedisCache.Progress

  @switches [name: :string, dry_run: :boolean, url: :string, verify: :boolean, index: :boolean]

  @impl true
  def run(arguments) do
    options = parse!(arguments)
    dry_run = Keyword.get(options, :dry_run, false)

    if url = options[:url] do
      name = start_own!(url, options)

      try do
        reindex(name, dry_run)
      after
        GenServer.stop(name)
      end
    else
      options[:name] |> start_app!() |> reindex(dry_run)
    end
  rescue
    error in PowRedisCache.Error -> Mix.raise(Exception.message(%{error | operation: :reindex}))
  end

  # No value is shown: it may hold a password.
  defp parse!(arguments) do
    case OptionParser.parse(arguments, strict: @switches) do
      {options, [], []} ->
        check!(options)

      {_options, _rest, [{switch, _value} | _]} ->
        wrong!("got #{switch}, unknown or with a wrong value")

      {_options, [_ | _], []} ->
        wrong!("got something that is no option")
    end
  end

  defp check!(options) do
    url = options[:url]
    if url && options[:name], do: wrong!("got both --url and --name")
    no = if is_nil(url), do: Enum.find([:verify, :index], &Keyword.has_key?(options, &1))
    if no, do: wrong!("got --no-#{no} without --url")
    options
  end

  @spec wrong!(String.t()) :: no_return()
  defp wrong!(problem) do
    Mix.raise(
      "expected --name NAME or --url URL [--no-verify] [--no-index], and --dry-run, #{problem}. " <>
        "See mix help pow_redis_cache.reindex"
    )
  end

  # The name of the app's instance.
  defp start_app!(name) do
    Mix.Task.run("app.start")

    case name do
      nil -> PowRedisCache
      ":" <> name -> String.to_atom(name)
      name -> Module.concat([name])
    end
  end

  # The name of one of our own.
  defp start_own!(url, options) do
    Mix.Task.run("loadpaths")
    {:ok, _started} = Application.ensure_all_started(:logger)
    index = Keyword.get(options, :index, true)
    verify = if Keyword.get(options, :verify, true), do: :verify_peer, else: :verify_none

    case start_trapping(name: __MODULE__, url: url, index: index, verify: verify) do
      {:ok, _pid} -> __MODULE__
      {:error, %ArgumentError{} = error} -> Mix.raise(Exception.message(error))
      {:error, _reason} -> Mix.raise("expected an instance to start with --url, it did not")
    end
  end

  # A start that fails is answered, and does not end this process.
  defp start_trapping(options) do
    trapping = Process.flag(:trap_exit, true)
    result = PowRedisCache.start_link(options)
    Process.flag(:trap_exit, trapping)
    result
  rescue
    error in ArgumentError -> {:error, error}
  end

  defp reindex(name, dry_run) do
    before = PowRedisCache.info(name).reconnects
    numbers = PowRedisCache.reindex(name: name, dry_run: dry_run, progress: Progress.new())
    Mix.shell().info(summary(numbers, dry_run))

    if PowRedisCache.info(name).reconnects != before do
      Mix.shell().error(
        "A connection was lost meanwhile. If Redis was restarted, or another server took its " <>
          "place, keys may have been passed over: run it again"
      )
    end
  end

  defp summary(%{keys: keys, indexed: indexed, renamed: renamed}, dry_run) do
    {were, note} = if dry_run, do: {"would be", ". Nothing was written"}, else: {"were", ""}
    "Looked at #{keys} keys: #{indexed} #{were} indexed, #{renamed} #{were} renamed#{note}"
  end
end
