defmodule PowRedisCache.Install.DiffTest do
  use ExUnit.Case, async: true

  alias PowRedisCache.Install.Diff

  test "is what patch applies" do
    old = Enum.map_join(1..30, &"line #{&1}\n")

    for new <- [
          "first\n" <> old,
          old <> "last\n",
          String.replace(old, "line 10\n", "line 10\nmore\n\n"),
          # Two changes that share a hunk, and two that do not.
          old |> String.replace("line 10\n", "a\n") |> String.replace("line 17\n", "b\n"),
          old |> String.replace("line 10\n", "a\n") |> String.replace("line 18\n", "b\n"),
          String.replace(old, "line 1\n", "")
        ] do
      assert patched(old, Diff.unified("file", old, new)) == new
    end
  end

  test "changes share a hunk if their contexts touch" do
    old = Enum.map_join(1..30, &"#{&1}\n")
    hunks = fn other -> length(String.split(Diff.unified("file", old, other), "\n@@ ")) - 1 end

    assert hunks.(old |> String.replace("\n10\n", "\na\n") |> String.replace("\n17\n", "\nb\n")) ==
             1

    assert hunks.(old |> String.replace("\n10\n", "\na\n") |> String.replace("\n18\n", "\nb\n")) ==
             2
  end

  # Applies the hunks of a diff to a text.
  defp patched(old, diff) do
    [_old_name, _new_name | hunks] = String.split(diff, ~r/^(?=@@ )|^(?=\+\+\+ )/m)
    lines = String.split(old, "\n")

    {result, rest_from} =
      Enum.reduce(hunks, {[], 1}, fn hunk, {result, from} ->
        [header | body] = hunk |> String.trim_trailing("\n") |> String.split("\n")

        [_, start, count, new_count] = Regex.run(~r/^@@ -(\d+),(\d+) \+\d+,(\d+) @@$/, header)

        start = String.to_integer(start)
        count = String.to_integer(count)
        before = lines |> Enum.take(start - 1) |> Enum.drop(from - 1)
        kept = for " " <> line <- body, do: line
        removed = for "-" <> line <- body, do: line
        assert length(kept) + length(removed) == count
        new = for <<sign, line::binary>> <- body, sign in [?\s, ?+], do: line
        assert length(new) == String.to_integer(new_count)
        old = for <<sign, line::binary>> <- body, sign in [?\s, ?-], do: line
        assert Enum.slice(lines, start - 1, count) == old
        {result ++ before ++ new, start + count}
      end)

    Enum.join(result ++ Enum.drop(lines, rest_from - 1), "\n")
  end
end
