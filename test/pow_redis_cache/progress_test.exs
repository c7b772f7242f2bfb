defmodule PowRedisCache.ProgressTest do
  use ExUnit.Case, async: true

  alias PowRedisCache.Progress

  # The output for calls at given times in milliseconds. The clock starts at 1,000.
  defp written(options, calls) do
    {:ok, device} = StringIO.open("")
    clock = :atomics.new(1, signed: true)
    :atomics.put(clock, 1, 1_000)
    options = [device: device, clock: fn -> :atomics.get(clock, 1) end] ++ options
    progress = Progress.new(options)

    for {at, keys, fraction} <- calls do
      :atomics.put(clock, 1, at)
      assert progress.(%{keys: keys, indexed: 0, renamed: 0, fraction: fraction}) == :ok
    end

    {_input, output} = StringIO.contents(device)
    output
  end

  @calls [
    {3_000, 20_000, 0.25},
    {5_000, 40_000, 0.5},
    # Too soon after the previous update.
    {5_050, 40_500, 0.51},
    {9_000, 1_234_567, 1.0}
  ]

  test "overwrites one line on a terminal" do
    output = written([terminal: true], @calls)

    assert String.split(output, "\r") |> Enum.map(&String.trim_trailing(&1, " ")) == [
             "",
             "[######------------------]   25 %  20,000 keys  10,000/s  00:06 left",
             "[############------------]   50 %  40,000 keys  10,000/s  00:04 left",
             String.pad_trailing(
               "[########################]  100 %  1,234,567 keys  154,320/s  took 00:08",
               78
             ) <> "\n"
           ]

    # Padding overwrites a longer line.
    widths = for line <- String.split(output, ["\r", "\n"], trim: true), do: String.length(line)
    assert widths == [78, 78, 78]
  end

  test "writes a line every ten seconds elsewhere, and one at the end" do
    calls = for(s <- 1..24, do: {1_000 + s * 1_000, s * 500, s / 40}) ++ [{25_400, 13_000, 1.0}]

    assert written([terminal: false], calls) == """
            25 %  5,000 keys  500/s  00:30 left
            50 %  10,000 keys  500/s  00:20 left
           100 %  13,000 keys  532/s  took 00:24
           """
  end

  test "derives the rate and the time left from the clock" do
    for {elapsed, keys, fraction, shown} <- [
          {10_000, 0, 0.5, " 50 %  0 keys  0/s  00:10 left"},
          {10_000, 999, 0.0, "  0 %  999 keys  99/s  ? left"},
          {10_000, 1_000, 0.001, "  0 %  1,000 keys  100/s  02:46:30 left"},
          {90_000, 9_000_000, 0.9, " 90 %  9,000,000 keys  100,000/s  00:10 left"},
          {90_000, 5, 0.9999, " 99 %  5 keys  0/s  00:00 left"},
          {0, 7, 1.0, "100 %  7 keys  7/s  took 00:00"},
          {3_661_000, 7, 1.0, "100 %  7 keys  0/s  took 01:01:01"}
        ] do
      assert written([terminal: false], [{1_000 + elapsed, keys, fraction}]) == shown <> "\n"
    end
  end

  test "rejects an unknown option" do
    assert_raise ArgumentError, ~r/unknown keys \[:divice\]/, fn -> Progress.new(divice: 1) end
  end
end
