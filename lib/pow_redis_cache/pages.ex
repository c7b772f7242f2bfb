defmodule PowRedisCache.Pages do
  @moduledoc false
  # Scans of all keys, page by page, for PowRedisCache.reindex/1 and PowRedisCache.reseal/1.

  alias PowRedisCache.Call

  @start {nil, 0}

  @doc "Checks the switches among options, and `:progress`. Returns the options as a map."
  def validate!(options, switches) do
    for name <- switches, not is_boolean(options[name]) do
      raise ArgumentError,
            "expected #{inspect(name)} to be true or false, got: #{inspect(options[name])}"
    end

    unless is_nil(options[:progress]) or is_function(options[:progress], 1) do
      raise ArgumentError,
            "expected :progress to be a function of one argument, got: #{inspect(options[:progress])}"
    end

    Map.new(options)
  end

  @doc """
  Scans all keys, and adds what the pages report to `numbers`. `part` converts the scanned fraction of
  the database into that of the whole run.
  """
  def sum(options, scan, part, numbers), do: pages(options, scan, part, @start, nil, numbers)

  # `slots` is what the first page reported. If slots of a cluster have moved since, keys may have
  # been missed: the scan starts again.
  defp pages(options, scan, part, position, slots, numbers) do
    page = Call.page(options.name, scan, position, options.dry_run)
    slots = slots || page.slots
    numbers = add(numbers, page)
    if options.progress, do: options.progress.(Map.put(numbers, :fraction, part.(page.fraction)))

    case page.next do
      nil when page.slots == slots -> numbers
      nil -> pages(options, scan, part, @start, page.slots, numbers)
      next -> pages(options, scan, part, next, slots, numbers)
    end
  end

  @doc "Scans the first pages of a dry run, until they have at least so many keys."
  def sample(name, scan, keys, numbers), do: sample(name, scan, keys, @start, numbers)

  defp sample(name, scan, keys, position, numbers) do
    page = Call.page(name, scan, position, true)
    numbers = add(numbers, page)

    if page.next == nil or numbers.keys >= keys,
      do: numbers,
      else: sample(name, scan, keys, page.next, numbers)
  end

  defp add(numbers, page) do
    Map.new(numbers, fn {name, sum} -> {name, sum + Map.fetch!(page, name)} end)
  end
end
