defmodule Mix.Tasks.PowRedisCache.Reindex do
  @shortdoc "Adds what is missing to the index and renames legacy keys"

  @moduledoc """
  Scans all keys in Redis, adds what is missing to the instance's `:index`, and renames legacy keys.
  See `PowRedisCache.reindex/1`.

      mix pow_redis_cache.reindex [--name MyApp.AdminSessions] [--dry-run] [--prune]
      mix pow_redis_cache.reindex --url redis://localhost:6379 [--dry-run] [--prune]

  Shows a progress bar on a terminal, and lines in a log. The task is safe to run on a live system, to
  interrupt, and to repeat. The exit status is 0 if all keys were scanned, or else 1.

  The task starts the app and uses its instance. In a release:

      bin/my_app rpc "PowRedisCache.reindex(progress: PowRedisCache.Progress.new()) |> inspect() |> IO.puts()"

  ## Options

    * `--name` - the name of the instance. Defaults to `PowRedisCache`.
    * `--dry-run` - counts the keys that would be indexed and renamed, and writes nothing.
    * `--prune` - also deletes the index sets that no pattern of `:index` uses. Do so only when no server
      uses them any more.
    * `--url` - the URL of the Redis server. The task neither starts the app nor reads its
      configuration. While it runs, other users of this machine can see the URL and its password in the
      process list.
    * `--no-verify` - with `--url`: accepts any certificate, which Heroku's certificates need.
    * `--every-prefix` - with `--url`: for an app with `index: true`.
    * `--no-index` - with `--url`: only renames, for an app with `index: false`.
  """

  use Mix.Task

  alias PowRedisCache.MixTask

  @switches [
    name: :string,
    dry_run: :boolean,
    prune: :boolean,
    url: :string,
    verify: :boolean,
    index: :boolean,
    every_prefix: :boolean
  ]

  @impl true
  def run(arguments) do
    options = parse!(arguments)
    scan = Keyword.take(options, [:dry_run, :prune])

    if url = options[:url] do
      name = start_own!(url, options)

      try do
        reindex(name, scan)
      after
        GenServer.stop(name)
      end
    else
      Mix.Task.run("app.start")
      options[:name] |> MixTask.instance() |> reindex(scan)
    end
  rescue
    error in PowRedisCache.Error -> Mix.raise(Exception.message(%{error | operation: :reindex}))
  end

  # Errors show no value, since it may hold a password.
  defp parse!(arguments) do
    case OptionParser.parse(arguments, strict: @switches) do
      {options, [], []} ->
        check!(options)

      {_options, _rest, [{switch, _value} | _]} ->
        wrong!("got #{switch}, which is unknown or has an invalid value")

      {_options, [_ | _], []} ->
        wrong!("got an argument that is not an option")
    end
  end

  defp check!(options) do
    url = options[:url]
    if url && options[:name], do: wrong!("got both --url and --name")
    own = [verify: "--no-verify", index: "--no-index", every_prefix: "--every-prefix"]
    given = for {name, switch} <- own, Keyword.has_key?(options, name), do: switch
    if is_nil(url) and given != [], do: wrong!("got #{hd(given)} without --url")

    if options[:index] == false and options[:every_prefix],
      do: wrong!("got both --no-index and --every-prefix")

    options
  end

  @spec wrong!(String.t()) :: no_return()
  defp wrong!(problem) do
    Mix.raise(
      "expected --name NAME or --url URL [--no-verify] [--no-index | --every-prefix], --dry-run and " <>
        "--prune, #{problem}. See mix help pow_redis_cache.reindex"
    )
  end

  # Returns the name of an instance of the task.
  defp start_own!(url, options) do
    Mix.Task.run("loadpaths")
    {:ok, _started} = Application.ensure_all_started(:logger)
    index = index(options[:index], options[:every_prefix])
    verify = if Keyword.get(options, :verify, true), do: :verify_peer, else: :verify_none

    case start_trapping(name: __MODULE__, url: url, index: index, verify: verify) do
      {:ok, _pid} -> __MODULE__
      {:error, %ArgumentError{} = error} -> Mix.raise(Exception.message(error))
      {:error, _reason} -> Mix.raise("could not start an instance with --url")
    end
  end

  defp index(false, _every_prefix), do: false
  defp index(_index, true), do: true
  defp index(_index, _every_prefix), do: :sessions

  # Returns the error of a failed start instead of exiting.
  defp start_trapping(options) do
    trapping = Process.flag(:trap_exit, true)
    result = PowRedisCache.start_link(options)
    Process.flag(:trap_exit, trapping)
    result
  rescue
    error in ArgumentError -> {:error, error}
  end

  defp reindex(name, scan) do
    MixTask.scan(name, fn options ->
      numbers = PowRedisCache.reindex(options ++ scan)
      Mix.shell().info(summary(numbers, Keyword.get(scan, :dry_run, false)))
    end)
  end

  defp summary(%{indexed: indexed, renamed: renamed} = numbers, dry_run) do
    MixTask.summary(numbers, dry_run, fn were ->
      "#{indexed} #{were} indexed, #{renamed} #{were} renamed" <> pruned(numbers, were)
    end)
  end

  defp pruned(%{pruned: pruned}, were), do: ", #{pruned} index sets #{were} deleted"
  defp pruned(_numbers, _were), do: ""
end
