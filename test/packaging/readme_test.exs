defmodule PowRedisCache.ReadmeTest do
  # What the README says runs, and is complete.
  use PowRedisCache.Case

  @readme File.read!(Path.expand("../../README.md", __DIR__))

  defp snippets, do: for([_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, @readme), do: code)

  @tag instance: [name: PowRedisCache]
  test "the calls by hand answer what stands behind them" do
    code = Enum.find(snippets(), &(&1 =~ "PowRedisCache.get(config"))
    # Each answer is compared with the line above it.
    checked = Regex.replace(~r/^(.+)\n#=> (.+)$/m, code, "true = (\\1) == \\2")
    assert length(Regex.scan(~r/^true = /m, checked)) == 2
    Code.eval_string(checked)
  end

  test "the others are Elixir" do
    for code <- snippets(), do: assert({:ok, _} = Code.string_to_quoted(code))
  end

  test "the installation takes at most 15 lines" do
    [installation] = Regex.run(~r/## Installation\n.*?\n## /s, @readme)
    code = for [_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, installation), do: code
    assert code |> Enum.join() |> String.split("\n", trim: true) |> length() <= 15
  end

  test "the tests that back what happens are there" do
    [table] = Regex.run(~r/## What happens when.*?\n## /s, @readme)
    rows = for "| " <> row <- String.split(table, "\n"), not (row =~ ~r/^when \|/), do: row
    assert length(rows) > 20

    for row <- rows do
      [_, file] = Regex.run(~r/`([^`]+_test\.exs|native[^`]+\.rs)` \|$/, row)
      assert File.regular?(Path.expand("../../#{file}", __DIR__)), file
    end
  end

  test "the numbers are those of the newest run" do
    newest = "../../bench/runs/20*.md" |> Path.expand(__DIR__) |> Path.wildcard() |> Enum.max()
    [summary, _in_full] = newest |> File.read!() |> String.split("\n\n## In full")
    assert @readme =~ summary
    assert @readme =~ "bench/runs/#{Path.basename(newest, ".md")}.svg"
  end

  test "the table of options has each with its default" do
    for {name, default} <- PowRedisCache.Options.validate!([]), name != :name do
      shown =
        default
        |> inspect()
        |> String.replace("10000", "10_000")
        |> String.replace("5000", "5_000")

      assert @readme =~ "| `#{inspect(name)}` | `#{shown}` |"
    end
  end
end
