defmodule PowRedisCache.Reindex do
  @moduledoc false
  # Reindexes all keys, page by page, and then prunes the index sets.

  alias PowRedisCache.Call

  @start {nil, 0}

  def run(options) do
    options = validate!(options)
    scans = if options.prune, do: [:reindex, :prune], else: [:reindex]
    numbers = Map.new(numbers(options), &{&1, 0})

    scans
    |> Enum.with_index()
    |> Enum.reduce(numbers, fn {scan, done}, numbers ->
      part = &((done + &1) / length(scans))
      pages(options, scan, part, @start, nil, numbers)
    end)
  end

  defp validate!(options) do
    options =
      Keyword.validate!(options,
        name: PowRedisCache,
        dry_run: false,
        prune: false,
        progress: nil
      )

    for name <- [:dry_run, :prune], not is_boolean(options[name]) do
      raise ArgumentError,
            "expected #{inspect(name)} to be true or false, got: #{inspect(options[name])}"
    end

    unless is_nil(options[:progress]) or is_function(options[:progress], 1) do
      raise ArgumentError,
            "expected :progress to be a function of one argument, got: #{inspect(options[:progress])}"
    end

    Map.new(options)
  end

  defp numbers(%{prune: true}), do: [:pruned | numbers(%{})]
  defp numbers(_options), do: [:keys, :indexed, :renamed, :skipped]

  # `slots` is what the first page reported. If slots of a cluster have moved since, keys may have
  # been missed: the scan starts again.
  defp pages(options, scan, part, position, slots, numbers) do
    page = Call.page(options.name, scan, position, options.dry_run)
    slots = slots || page.slots
    numbers = Map.new(numbers, fn {name, sum} -> {name, sum + Map.fetch!(page, name)} end)
    if options.progress, do: options.progress.(Map.put(numbers, :fraction, part.(page.fraction)))

    case page.next do
      nil when page.slots == slots -> numbers
      nil -> pages(options, scan, part, @start, page.slots, numbers)
      next -> pages(options, scan, part, next, slots, numbers)
    end
  end
end
