defmodule PowRedisCache.DocumentTables do
  @moduledoc """
  Tables of documents whose first column is `when`. A comment below each names the tests of its rows, in
  order.
  """

  import ExUnit.Assertions

  @root Path.expand("../..", __DIR__)

  @doc "The tables of a document: their rows, and the lines of the comments."
  @spec read(String.t()) :: [{[String.t()], [String.t()]}]
  def read(text) do
    for [table] <- Regex.scan(~r/^\| when \|.*?-->/ms, text) do
      [rows, comment] = String.split(table, "\n\n<!-- The tests of these rows, in order:\n")
      [_head, _line | rows] = String.split(rows, "\n")
      {rows, comment |> String.trim_trailing("\n-->") |> String.split("\n")}
    end
  end

  @doc "Asserts that each row of a table has a test, `file: title`, which exists."
  @spec assert_tested({[String.t()], [String.t()]}) :: :ok
  def assert_tested({rows, tests}) do
    assert length(tests) == length(rows)

    for test <- tests do
      [file, title] = String.split(test, ": ", parts: 2)
      assert File.read!(Path.join(@root, file)) =~ ~s(test "#{title}"), test
    end

    :ok
  end
end
