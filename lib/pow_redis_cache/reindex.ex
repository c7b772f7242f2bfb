defmodule PowRedisCache.Reindex do
  @moduledoc false
  # Reindexes all keys, page by page, and then prunes the index sets.

  alias PowRedisCache.Pages

  def run(options) do
    options = validate!(options)
    scans = if options.prune, do: [:reindex, :prune], else: [:reindex]
    numbers = Map.new(numbers(options), &{&1, 0})

    scans
    |> Enum.with_index()
    |> Enum.reduce(numbers, fn {scan, done}, numbers ->
      part = &((done + &1) / length(scans))
      Pages.sum(options, scan, part, numbers)
    end)
  end

  defp validate!(options) do
    options
    |> Keyword.validate!(name: PowRedisCache, dry_run: false, prune: false, progress: nil)
    |> Pages.validate!([:dry_run, :prune])
  end

  defp numbers(%{prune: true}), do: [:pruned | numbers(%{})]
  defp numbers(_options), do: [:keys, :indexed, :renamed, :skipped]
end
