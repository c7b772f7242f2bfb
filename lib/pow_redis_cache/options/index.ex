defmodule PowRedisCache.Options.Index do
  @moduledoc false
  # The option :index, which has patterns of keys.

  alias PowRedisCache.Shape

  # What Pow asks for: the sessions of a user, and the tokens of persistent sessions.
  @sessions [[:_, :user, :_, :session, :_], [:_, :user, :_, :token, :_]]
  # Without the namespace.
  @max_parts 64

  @doc "Converts the validated option for the native library."
  def to_native(:sessions), do: to_native(@sessions)
  def to_native(true), do: :every_prefix
  def to_native(false), do: []
  def to_native(patterns), do: Enum.map(patterns, &:erlang.term_to_binary/1)

  @doc "Returns what is wrong with a pattern, or nil."
  def pattern_problem(pattern) do
    cond do
      pattern == [] or not Shape.list?(pattern) -> Shape.of(pattern)
      List.last(pattern) != :_ -> "a list that does not end with :_"
      length(pattern) > @max_parts -> "a list of more than #{@max_parts} parts"
      true -> pattern |> Enum.find(&(not pattern_part?(&1))) |> part_problem()
    end
  end

  defp pattern_part?(part) when is_atom(part), do: not String.starts_with?("#{part}", "$")
  defp pattern_part?(part), do: is_binary(part) or is_number(part)

  defp part_problem(nil), do: nil
  defp part_problem(part) when is_atom(part), do: "a list with the variable #{inspect(part)}"

  defp part_problem(part),
    do: "a list with #{Shape.of(part)} instead of an atom, a string or a number"
end
