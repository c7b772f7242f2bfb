defmodule PowRedisCache.Reindex do
  @moduledoc false
  # Reindexes all keys, page by page.

  alias PowRedisCache.Call

  @zero %{keys: 0, indexed: 0, renamed: 0, skipped: 0}

  def run(options) do
    options = validate!(options)
    pages(options, 0, @zero)
  end

  defp validate!(options) do
    options = Keyword.validate!(options, name: PowRedisCache, dry_run: false, progress: nil)

    unless is_boolean(options[:dry_run]) do
      raise ArgumentError,
            "expected :dry_run to be true or false, got: #{inspect(options[:dry_run])}"
    end

    unless is_nil(options[:progress]) or is_function(options[:progress], 1) do
      raise ArgumentError,
            "expected :progress to be a function of one argument, got: #{inspect(options[:progress])}"
    end

    Map.new(options)
  end

  defp pages(options, cursor, numbers) do
    {next, page} = options.name |> Call.reindex_page(cursor, options.dry_run) |> Map.pop!(:cursor)
    numbers = Map.merge(numbers, page, fn _key, sum, more -> sum + more end)
    if options.progress, do: options.progress.(Map.put(numbers, :fraction, fraction(next)))
    if next == 0, do: numbers, else: pages(options, next, numbers)
  end

  # SCAN increments its cursor from the highest bit, so that the cursor stays valid while the hash
  # table grows. Reversed, its bits are the scanned part of the table. Counting keys would not work:
  # a page does not report the keys of other applications, and reindexing adds keys.
  defp fraction(0), do: 1.0

  defp fraction(cursor) do
    bytes = <<cursor::64>>
    bits = for <<bit::1 <- bytes>>, do: bit
    (bits |> Enum.reverse() |> Integer.undigits(2)) / 2 ** 64
  end
end
