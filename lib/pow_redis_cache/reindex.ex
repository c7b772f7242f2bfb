defmodule PowRedisCache.Reindex do
  @moduledoc false
  # One look at all keys, page by page.

  alias PowRedisCache.Call

  @nothing %{keys: 0, indexed: 0, renamed: 0}

  def run(options) do
    options = validate!(options)
    pages(options, 0, @nothing)
  end

  defp validate!(options) do
    options = Keyword.validate!(options, name: PowRedisCache, dry_run: false, progress: nil)

    unless is_boolean(options[:dry_run]) do
      raise ArgumentError,
            "expected :dry_run to be true or false, got: #{inspect(options[:dry_run])}"
    end

    unless is_nil(options[:progress]) or is_function(options[:progress], 1) do
      raise ArgumentError, "expected :progress to be a function of one argument"
    end

    Map.new(options)
  end

  defp pages(options, cursor, numbers) do
    {next, page} = options.name |> Call.reindex_page(cursor, options.dry_run) |> Map.pop!(:cursor)
    numbers = Map.merge(numbers, page, fn _key, sum, more -> sum + more end)
    if options.progress, do: options.progress.(Map.put(numbers, :fraction, fraction(next)))
    if next == 0, do: numbers, else: pages(options, next, numbers)
  end

  # SCAN counts its cursor up from the highest bit, so that it holds its place while the table grows:
  # read from the other end, it is the part of the table that was looked at. Counting keys would not
  # do: a page does not tell how many of others it passed, and a reindex adds to their number.
  defp fraction(0), do: 1.0

  defp fraction(cursor) do
    bytes = <<cursor::64>>
    bits = for <<bit::1 <- bytes>>, do: bit
    (bits |> Enum.reverse() |> Integer.undigits(2)) / 2 ** 64
  end
end
