defmodule PowRedisCache.Progress do
  @moduledoc """
  Shows how far a `PowRedisCache.reindex/1` is: as a bar on a terminal, else as a line now and then.

      PowRedisCache.reindex(progress: PowRedisCache.Progress.new())

  The bar:

      [#########---------------]   38 %  470,104 keys  52,300/s  00:15 left

  Keys are those of ours that were looked at. The time left is what the rest of the database takes
  at the same speed.
  """

  @width 24
  # How long to be silent, in milliseconds.
  @pause %{true: 100, false: 10_000}

  @doc """
  A function for the option `:progress` of `PowRedisCache.reindex/1`. Its clock starts here.

  Options:

    * `:device` - where to write. Defaults to the standard output; through `rpc` of a release, that of
      the shell in which it was called.
    * `:terminal` - whether that is a terminal. Defaults to what `IO.ANSI.enabled?/0` says.
    * `:clock` - a function that answers the time in milliseconds. Defaults to the VM's.
  """
  @spec new(keyword()) :: (map() -> :ok)
  def new(options \\ []) do
    options = Keyword.validate!(options, [:device, :terminal, :clock])
    clock = Keyword.get(options, :clock, fn -> System.monotonic_time(:millisecond) end)
    terminal = Keyword.get_lazy(options, :terminal, &IO.ANSI.enabled?/0)
    device = Keyword.get(options, :device, :stdio)
    started = clock.()
    # When it was shown last.
    shown = :atomics.new(1, signed: true)
    :atomics.put(shown, 1, started)

    fn numbers ->
      now = clock.()
      done = numbers.fraction == 1.0

      if done or now - :atomics.get(shown, 1) >= @pause[terminal] do
        :atomics.put(shown, 1, now)
        write(device, terminal, done, text(numbers, now - started, terminal))
      end

      :ok
    end
  end

  # A line on a terminal is written over by the next.
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

  # Hours where there are any, minutes and seconds.
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
