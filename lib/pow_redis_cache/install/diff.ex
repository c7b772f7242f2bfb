defmodule PowRedisCache.Install.Diff do
  @moduledoc false
  # The difference of two texts, in the unified format.

  @context 3

  def unified(path, old, new) do
    changes =
      List.myers_difference(lines(old), lines(new))
      |> Enum.flat_map(fn {kind, lines} -> Enum.map(lines, &{kind, &1}) end)
      |> number(1, 1)

    hunks = for hunk <- hunks(changes), do: [header(hunk) | Enum.map(hunk, &line/1)]
    Enum.join(["--- a/#{path}", "+++ b/#{path}" | List.flatten(hunks)], "\n") <> "\n"
  end

  defp lines(text),
    do: text |> String.replace("\r\n", "\n") |> String.trim_trailing("\n") |> String.split("\n")

  # Each line with its numbers in the old and the new text.
  defp number([], _old, _new), do: []

  defp number([{kind, line} | rest], old, new) do
    [{kind, line, old, new} | number(rest, old + step(kind, :ins), new + step(kind, :del))]
  end

  defp step(kind, kind), do: 0
  defp step(_kind, _other), do: 1

  # Changes with at most twice the context between them share a hunk.
  defp hunks(changes) do
    indexed = Enum.with_index(changes)
    changed = for {{kind, _, _, _}, index} <- indexed, kind != :eq, do: index

    changed
    |> Enum.chunk_while([], &join/2, &{:cont, &1, []})
    |> Enum.reject(&(&1 == []))
    |> Enum.map(fn [last | _] = indexes ->
      first = max(List.last(indexes) - @context, 0)
      Enum.slice(changes, first..(last + @context))
    end)
  end

  defp join(index, []), do: {:cont, [index]}

  defp join(index, [last | _] = indexes) do
    if index - last <= 2 * @context + 1,
      do: {:cont, [index | indexes]},
      else: {:cont, indexes, [index]}
  end

  defp header([{_kind, _line, old, new} | _] = hunk) do
    count = fn without -> Enum.count(hunk, fn {kind, _, _, _} -> kind != without end) end
    "@@ -#{old},#{count.(:ins)} +#{new},#{count.(:del)} @@"
  end

  defp line({:eq, line, _old, _new}), do: " " <> line
  defp line({:ins, line, _old, _new}), do: "+" <> line
  defp line({:del, line, _old, _new}), do: "-" <> line
end
