defmodule PowRedisCache.Bench.Json do
  @moduledoc "Encodes JSON, since Erlang/OTP has an encoder from 27 on only. The innermost maps take one line each."

  def encode(term), do: [value(term, ""), "\n"]

  defp value(map, indent) when is_map(map) do
    members =
      for {key, value} <- Enum.sort(map), do: [string(key), ": ", value(value, indent <> "  ")]

    if Enum.any?(map, fn {_key, value} -> is_map(value) or is_list(value) end),
      do: block("{", members, "}", indent),
      else: ["{", Enum.intersperse(members, ", "), "}"]
  end

  defp value(list, indent) when is_list(list) do
    values = Enum.map(list, &value(&1, indent <> "  "))

    if Enum.any?(list, &is_map/1),
      do: block("[", values, "]", indent),
      else: ["[", Enum.intersperse(values, ", "), "]"]
  end

  defp value(number, _indent) when is_integer(number), do: Integer.to_string(number)

  defp value(number, _indent) when is_float(number),
    do: :erlang.float_to_binary(number, decimals: 2)

  defp value(atom, _indent) when atom in [nil, true, false],
    do: if(is_nil(atom), do: "null", else: "#{atom}")

  defp value(text, _indent), do: string(text)

  defp block(open, members, close, indent) do
    [
      open,
      "\n",
      Enum.intersperse(Enum.map(members, &[indent, "  ", &1]), ",\n"),
      "\n",
      indent,
      close
    ]
  end

  defp string(text) do
    escaped =
      for <<character::utf8 <- to_string(text)>> do
        case character do
          ?" -> ~S(\")
          ?\\ -> ~S(\\)
          control when control < 0x20 -> :io_lib.format("\\u~4.16.0b", [control])
          other -> <<other::utf8>>
        end
      end

    [?", escaped, ?"]
  end
end
