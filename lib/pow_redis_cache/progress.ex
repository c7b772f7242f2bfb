defmodule PowRedisCache.Progress do
  @moduledoc """
  Shows the progress of `PowRedisCache.reindex/1`: a bar on a terminal, or else a line every ten
  seconds.

      PowRedisCache.reindex(progress: PowRedisCache.Progress.new())

  The bar:

      [#########---------------]   38 %  470,104 keys  52,300/s  00:15 left

  The number of keys counts only those of this package. The time left assumes a constant rate.
  """

  @width 24
  # Milliseconds between updates, on a terminal and elsewhere.
  @interval %{true: 100, false: 10_000}

  @doc """
  Returns a function for the `:progress` option of `PowRedisCache.reindex/1`. Elapsed time is
  measured from this call.

  Options:

    * `:device` - the device to write to. Defaults to standard output. Under `rpc` of a release, that
      is the output of the calling shell.
    * `:terminal` - whether the device is a terminal. Defaults to `IO.ANSI.enabled?/0`.
    * `:clock` - a function that returns the time in milliseconds. Defaults to monotonic time.
  """
  @spec new(keyword()) :: (map() -> :ok)
  def new(options \\ []) do
    options = Keyword.validate!(options, [:device, :terminal, :clock])
    clock = Keyword.get(options, :clock, fn -> System.monotonic_time(:millisecond) end)
    terminal = Keyword.get_lazy(options, :terminal, &IO.ANSI.enabled?/0)
    device = Keyword.get(options, :device, :stdio)
    started = clock.()
    # The time of the last update.
    shown = :atomics.new(1, signed: true)
    :atomics.put(shown, 1, started)

    fn numbers ->
      now = clock.()
      done = numbers.fraction == 1.0

      if done or now - :atomics.get(shown, 1) >= @interval[terminal] do
        :atomics.put(shown, 1, now)
        write(device, terminal, done, text(numbers, now - started, terminal))
      end

      :ok
    end
  end

  # On a terminal, each update overwrites the line.
  defp write(device, true, done, text) do
    IO.write(device, ["\r", String.pad_trailing(text, 78), if(done, do: "\n", else: "")])
  end

  defp write(device, false, _done, text), do: IO.puts(device, text)

  defp text(%{fraction: fraction, keys: keys}, elapsed, terminal) do
    percent = String.pad_leading("#{trunc(fraction * 100)}", 3)
    rate = if elapsed > 0, do: div(keys * 1_000, elapsed), else: keys

    numbers =
      "#{percent} %  #{grouped(keys)} keys  #{grouped(rate)}/s  #{time(fraction, elapsed)}"

    if terminal, do: "#{bar(fraction)}  #{numbers}", else: numbers
  end

  defp bar(fraction) do
    full = trunc(fraction * @width)
    "[#{String.duplicate("#", full)}#{String.duplicate("-", @width - full)}]"
  end

  defp time(1.0, elapsed), do: "took #{clock(elapsed)}"
  defp time(fraction, _elapsed) when fraction == 0, do: "? left"
  defp time(fraction, elapsed), do: "#{clock(elapsed * (1 - fraction) / fraction)} left"

  # MM:SS, or HH:MM:SS from one hour on.
  defp clock(milliseconds) do
    seconds = round(milliseconds / 1_000)
    minutes = div(seconds, 60)

    [hours, minutes, seconds] =
      Enum.map([div(minutes, 60), rem(minutes, 60), rem(seconds, 60)], &two_digits/1)

    if hours == "00", do: "#{minutes}:#{seconds}", else: "#{hours}:#{minutes}:#{seconds}"
  end

  defp two_digits(number), do: number |> Integer.to_string() |> String.pad_leading(2, "0")

  defp grouped(number) do
    number |> Integer.to_string() |> String.replace(~r/\B(?=(\d{3})+$)/, ",")
  end
end
