defmodule PowRedisCache.Install.Source do
  @moduledoc false
  # A file of Elixir: its text, and its syntax tree with positions. Literals in the tree are wrapped in
  # `{:__block__, meta, [literal]}`, so that they have positions too.

  defstruct [:text, :tree]

  def parse(text) do
    options = [
      columns: true,
      token_metadata: true,
      literal_encoder: &{:ok, {:__block__, &2, [&1]}}
    ]

    with {:ok, tree} <- Code.string_to_quoted(text, options),
         do: {:ok, %__MODULE__{text: text, tree: tree}}
  end

  @doc "The expressions of a file or of a `do` block, and none of a file without a source."
  def expressions(nil), do: []
  def expressions(%__MODULE__{tree: tree}), do: expressions(tree)

  def expressions({:__block__, meta, expressions} = node) do
    # A wrapped literal has a position, and a block of several expressions has none.
    if Keyword.has_key?(meta, :line), do: [node], else: expressions
  end

  def expressions(expression), do: [expression]

  @doc "The expressions of the body of the only module in a file, or `[]`."
  def module_body(source) do
    case expressions(source) do
      [{:defmodule, _meta, [_name, [{do_key, body}]]}] ->
        if do?(do_key), do: expressions(body), else: []

      _other ->
        []
    end
  end

  @doc "The only module in a file, or `nil`."
  def module(source) do
    case expressions(source) do
      [{:defmodule, _meta, [name | _]}] -> alias_of(name)
      _other -> nil
    end
  end

  @doc "The body of a function definition of any of these expressions, as expressions, or `[]`."
  def function_body(expressions, name) do
    Enum.find_value(expressions, [], fn
      {kind, _meta, [{^name, _, _}, [{do_key, body}]]} when kind in [:def, :defp] ->
        if do?(do_key), do: expressions(body)

      _other ->
        nil
    end)
  end

  @doc "The module that an expression names, or `nil`."
  def alias_of({:__aliases__, _meta, parts}) do
    if Enum.all?(parts, &is_atom/1), do: Module.concat(parts)
  end

  def alias_of(_expression), do: nil

  @doc "The literal that an expression is, or `nil`."
  def literal({:__block__, meta, [literal]}), do: if(Keyword.has_key?(meta, :line), do: literal)
  def literal(_expression), do: nil

  @doc "The value of the first pair anywhere in the file that has this key, or `nil`."
  def pair_value(source, key) do
    find(source, fn
      {{:__block__, _meta, [^key]}, value} -> value
      _other -> nil
    end)
  end

  @doc "The first true value of a function over all nodes, or `nil`."
  def find(%__MODULE__{tree: tree}, function) do
    {_tree, found} =
      Macro.prewalk(tree, nil, fn
        node, nil -> {node, function.(node) || nil}
        node, found -> {node, found}
      end)

    found
  end

  @doc """
  Inserts code before expressions of the file, each in lines of its own, above the comments that belong
  to it. An expression that does not begin its line gets the code before it in that line.

  Returns the new text, or `nil` if it is not valid Elixir.
  """
  def insert_before(source, insertions) do
    newline = newline(source.text)
    lines = String.split(source.text, "\n")

    lines =
      insertions
      |> Enum.group_by(fn {node, _code} -> position(node) end, fn {_node, code} -> code end)
      # From the end, so that earlier positions stay valid.
      |> Enum.sort(:desc)
      |> Enum.reduce(lines, fn {position, codes}, lines ->
        insert(lines, position, Enum.flat_map(codes, &String.split(&1, "\n")), newline)
      end)

    valid(Enum.join(lines, "\n"))
  end

  @doc "Appends code to the file, after an empty line."
  def append(source, code) do
    newline = newline(source.text)
    code = String.replace(code, "\n", newline)
    valid(String.trim_trailing(source.text) <> newline <> newline <> code <> newline)
  end

  defp valid(text), do: if(match?({:ok, _source}, parse(text)), do: text)

  defp newline(text), do: if(text =~ "\r\n", do: "\r\n", else: "\n")

  defp insert(lines, {line, column}, code, newline) do
    before =
      lines |> Enum.at(line - 1) |> String.to_charlist() |> Enum.take(column - 1) |> to_string()

    if String.trim(before) == "",
      do: insert_lines(lines, line, before, code, newline),
      else: List.update_at(lines, line - 1, &insert_inline(&1, before, code))
  end

  defp insert_lines(lines, line, indentation, code, newline) do
    {above, below} = Enum.split(lines, line - 1 - comments_above(lines, line))
    ending = String.trim_trailing(newline, "\n")
    above ++ Enum.map(code, &indent(&1, indentation, ending)) ++ below
  end

  defp indent("", _indentation, ending), do: ending
  defp indent(line, indentation, ending), do: indentation <> line <> ending

  defp insert_inline(line, before, code) do
    before <> Enum.map_join(code, &(&1 <> " ")) <> String.replace_prefix(line, before, "")
  end

  defp comments_above(lines, line) do
    lines
    |> Enum.take(line - 1)
    |> Enum.reverse()
    |> Enum.take_while(&String.starts_with?(String.trim_leading(&1), "#"))
    |> length()
  end

  # Of a pair, that of its key.
  defp position({{_, _, _} = key, _value}), do: position(key)

  defp position({_form, meta, _arguments}), do: {meta[:line], meta[:column]}

  defp do?({:__block__, _meta, [:do]}), do: true
  defp do?(_key), do: false
end
