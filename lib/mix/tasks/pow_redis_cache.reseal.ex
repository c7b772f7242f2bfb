defmodule Mix.Tasks.PowRedisCache.Reseal do
  @shortdoc "Seals the values in Redis with the first key of :seal"

  @moduledoc """
  Scans all keys in Redis, and writes the values again that are not in the form in which the instance
  writes them: sealed with the first key of `:seal`, or with `write: :plain`, not sealed. See
  `PowRedisCache.reseal/1`, and the steps in the guide [Sealed values](guides/sealing.md).

      mix pow_redis_cache.reseal [--name MyApp.AdminSessions] [--dry-run]

  Shows a progress bar on a terminal, and lines in a log. The task is safe to run on a live system, to
  interrupt, and to repeat. The exit status is 0 if all keys were scanned, or else 1.

  The task starts the app and uses its instance. In a release:

      bin/my_app rpc "PowRedisCache.reseal(progress: PowRedisCache.Progress.new()) |> inspect() |> IO.puts()"

  ## Options

    * `--name` - the name of the instance. Defaults to `PowRedisCache`.
    * `--dry-run` - counts the values that would be written again, and writes nothing.
  """

  use Mix.Task

  alias PowRedisCache.MixTask

  @impl true
  def run(arguments) do
    options = parse!(arguments)
    Mix.Task.run("app.start")
    options[:name] |> MixTask.instance() |> reseal(Keyword.get(options, :dry_run, false))
  rescue
    error in [ArgumentError, PowRedisCache.Error] -> Mix.raise(Exception.message(error))
  end

  defp parse!(arguments) do
    case OptionParser.parse(arguments, strict: [name: :string, dry_run: :boolean]) do
      {options, [], []} ->
        options

      _other ->
        Mix.raise(
          "expected only --name NAME and --dry-run, got other arguments. See mix help " <>
            "pow_redis_cache.reseal"
        )
    end
  end

  defp reseal(name, dry_run) do
    MixTask.scan(name, fn options ->
      numbers = PowRedisCache.reseal([dry_run: dry_run] ++ options)
      Mix.shell().info(summary(numbers, dry_run))
      if not dry_run and numbers.changed > 0, do: Mix.shell().error(changed(numbers.changed))
    end)
  end

  defp summary(numbers, dry_run) do
    written = numbers.resealed - numbers.changed

    MixTask.summary(numbers, dry_run, fn were ->
      "#{written} values #{were} written again" <> unopened(numbers.unopened)
    end)
  end

  defp changed(number) do
    "#{number} values were put or deleted meanwhile, and left as they are. Servers may still write the " <>
      "former form: run it again when all of them have the new configuration"
  end

  defp unopened(0), do: ""
  defp unopened(number), do: ", #{number} did not open"
end
