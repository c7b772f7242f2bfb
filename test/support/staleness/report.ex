defmodule PowRedisCache.Staleness.Report do
  @moduledoc "A verdict in words."

  @shown 5
  # Around the write and the read of a violation, in microseconds.
  @around 500_000
  @max_lines 40

  @doc "Prints how long replaced values were still read, by the kind of fault."
  @spec print(map(), map(), String.t(), String.t()) :: :ok
  def print(verdict, entries, title, usage) do
    rows =
      verdict.delays
      |> Enum.group_by(&kind(&1, entries.fault), &(&1.to - &1.from))
      |> Map.merge(Map.new(entries.fault, &{&1.kind, []}), fn _kind, delays, _none -> delays end)
      |> Enum.sort()
      |> Enum.map(fn {kind, delays} ->
        row(kind, Enum.count(entries.fault, &(&1.kind == kind)), delays)
      end)

    IO.puts("""

    staleness, #{title}: #{verdict.reads} reads, #{length(entries.write)} writes, #{usage}
    #{verdict.replaced} times a value that an instance had read was replaced, #{length(verdict.violations)} violations
      milliseconds for which replaced values were still read, by fault:
    #{Enum.join(rows, "\n")}
    """)
  end

  @doc "Describes the first violations, with what happened to their keys."
  @spec describe([map()], map()) :: String.t()
  def describe(violations, entries) do
    rules = violations |> Enum.frequencies_by(& &1.rule) |> inspect()

    violations
    |> Enum.sort_by(& &1.read_at)
    |> Enum.take(@shown)
    |> Enum.map_join("\n\n", &describe_one(&1, entries))
    |> then(&"#{length(violations)} violations: #{rules}\n\n#{&1}")
  end

  @doc "The kind of the fault during which a replaced value was read, or `:none`."
  @spec kind(map(), [map()]) :: atom()
  def kind(delay, faults) do
    Enum.find_value(faults, :none, fn fault ->
      if fault.from <= delay.to and fault.to >= delay.from, do: fault.kind
    end)
  end

  @doc "The delays of values that were replaced while there was no fault, in milliseconds."
  @spec without_fault(map(), map()) :: [float()]
  def without_fault(verdict, entries) do
    for delay <- verdict.delays,
        kind(delay, entries.fault) == :none,
        do: (delay.to - delay.from) / 1_000
  end

  defp row(kind, count, delays) do
    sorted = Enum.sort(delays)

    values =
      "#{length(sorted)} values, half #{at(sorted, 0.5)}, 99 % #{at(sorted, 0.99)}, worst #{at(sorted, 1)}"

    "    #{String.pad_trailing("#{kind} (#{count})", 38)} #{values}"
  end

  defp at([], _part), do: "-"

  defp at(sorted, part) do
    index = min(trunc(length(sorted) * part), length(sorted) - 1)
    Float.round(Enum.at(sorted, index) / 1_000, 1)
  end

  # Times are relative to the read.
  defp describe_one(violation, entries) do
    %{key: key, read_at: at} = violation

    lines =
      for(write <- entries.write, write.key == key, do: {write.from, write_line(write, at)}) ++
        for(
          reads <- entries.reads,
          reads.key == key and reads.instance == violation.instance,
          do: {reads.first_from, reads_line(reads, at)}
        ) ++
        for(fault <- entries.fault, do: {fault.from, fault_line(fault, at)}) ++
        for(handover <- entries.handover, do: {handover.from, handover_line(handover, at)})

    written = Enum.find(entries.write, &(&1.key == key and &1.value == violation.value))
    since = if written && violation.value != :absent, do: min(written.from, at), else: at

    history =
      lines
      |> Enum.filter(fn {from, _line} -> from > since - @around and from < at + @around end)
      |> Enum.sort()
      |> Enum.map(&elem(&1, 1))
      |> shorten()

    "#{inspect(Map.delete(violation, :read_at))}\n" <> Enum.join(history, "\n")
  end

  defp shorten(lines) when length(lines) <= @max_lines, do: lines

  defp shorten(lines) do
    half = div(@max_lines, 2)
    Enum.take(lines, half) ++ ["  ..."] ++ Enum.take(lines, -half)
  end

  defp write_line(write, at) do
    ttl = if write.ttl, do: ", ttl #{div(write.ttl, 1_000)}"

    "  #{ms(write.from, at)} to #{ms(write.to, at)}: #{inspect(write.by)} wrote #{write.value}, #{write.outcome}#{ttl}"
  end

  defp reads_line(reads, at) do
    "  #{ms(reads.first_from, at)} to #{ms(reads.last_to, at)}: #{reads.instance} read #{reads.value}, " <>
      "#{reads.count} times, first until #{ms(reads.first_to, at)}, last from #{ms(reads.last_from, at)}"
  end

  defp fault_line(fault, at),
    do: "  #{ms(fault.from, at)} to #{ms(fault.to, at)}: #{fault.kind}"

  defp handover_line(handover, at),
    do: "  #{ms(handover.from, at)} to #{ms(handover.to, at)}: handover, lossy: #{handover.lossy}"

  defp ms(:never, _at), do: "never"
  defp ms(time, at), do: Float.round((time - at) / 1_000, 1)
end
