defmodule PowRedisCache.MixTask do
  @moduledoc false
  # What the Mix tasks share: the name of an instance, and scans of all keys.

  alias PowRedisCache.Progress

  @doc "Returns the instance that the switch `--name` names."
  def instance(nil), do: PowRedisCache
  def instance(":" <> name), do: String.to_atom(name)
  def instance(name), do: Module.concat([name])

  @doc """
  Calls a function with the options of a scan, which shows its progress, and says if the scan may have
  skipped keys.
  """
  def scan(name, function) do
    before = PowRedisCache.info(name).reconnects
    function.(name: name, progress: Progress.new())

    if PowRedisCache.info(name).reconnects != before do
      Mix.shell().error(
        "A connection was lost during the scan. If Redis restarted or failed over, the scan may have " <>
          "skipped keys: run it again"
      )
    end
  end

  @doc "The summary of a scan. `changes` says what was done, with its argument as the verb."
  def summary(%{keys: keys, skipped: skipped}, dry_run, changes) do
    {were, note} = if dry_run, do: {"would be", ". Nothing was written"}, else: {"were", ""}
    "Scanned #{keys} keys: " <> changes.(were) <> skipped(skipped) <> note
  end

  defp skipped(0), do: ""
  defp skipped(number), do: ". Skipped #{number} with more than 64 parts or 16 kB"
end
