defmodule PowRedisCache.Shape do
  @moduledoc false
  # What a term is, for messages. Its content may be a password.

  @doc "Describes a term without its content."
  def of(value) when value in [nil, true, false], do: inspect(value)
  def of(value) when is_atom(value), do: "an atom"
  def of(value) when is_integer(value), do: "an integer"
  def of(value) when is_float(value), do: "a float"
  def of(""), do: "an empty string"
  def of(value) when is_binary(value), do: "a string"
  def of(value) when is_bitstring(value), do: "a bitstring"
  def of([]), do: "an empty list"
  def of(value) when is_list(value), do: list(value)
  def of(value) when is_map(value), do: "a map"
  def of(value) when is_tuple(value), do: "a tuple with #{tuple_size(value)} elements"

  def of(value) when is_function(value) do
    {:arity, arity} = Function.info(value, :arity)
    "a function of arity #{arity}"
  end

  def of(value) when is_pid(value), do: "a pid"
  def of(value) when is_port(value), do: "a port"
  def of(value) when is_reference(value), do: "a reference"

  @doc "Whether a term is a list with a proper end."
  def list?(value), do: is_list(value) and not List.improper?(value)

  @doc "Whether a term is a function without arguments or `{module, function, arguments}`."
  def callable?({module, function, arguments}) do
    is_atom(module) and is_atom(function) and list?(arguments)
  end

  def callable?(value), do: is_function(value, 0)

  defp list(value) do
    cond do
      List.improper?(value) -> "an improper list"
      :io_lib.printable_unicode_list(value) -> "a charlist"
      Keyword.keyword?(value) -> "a keyword list"
      true -> "a list"
    end
  end
end
