defmodule PowRedisCache.Resp do
  @moduledoc """
  Redis's protocol as bytes: takes commands and replies from the front of a buffer, and builds replies.
  """

  @doc "Takes a command from the front. Returns its arguments and the rest, or `:more`."
  @spec take_command(binary()) :: {:ok, [binary()], binary()} | :more
  def take_command("*" <> rest) do
    with {:ok, count, rest} <- number(rest), do: arguments(count, rest, [])
  end

  def take_command(""), do: :more

  @doc "Takes the bytes of a whole reply from the front. Returns them and the rest, or `:more`."
  @spec take_reply(binary()) :: {:ok, binary(), binary()} | :more
  def take_reply(bytes) do
    with {:ok, rest} <- skip(bytes) do
      {reply, rest} = split_at(bytes, byte_size(bytes) - byte_size(rest))
      {:ok, reply, rest}
    end
  end

  @doc "A bulk string."
  @spec bulk(binary()) :: binary()
  def bulk(bytes), do: "$#{byte_size(bytes)}\r\n#{bytes}\r\n"

  @doc "An array of packed replies."
  @spec array([binary()]) :: binary()
  def array(items), do: "*#{length(items)}\r\n#{Enum.join(items)}"

  @doc "The reply to `TIME`."
  @spec time(integer()) :: binary()
  def time(unix_seconds), do: array([bulk("#{unix_seconds}"), bulk("123456")])

  defp arguments(0, rest, arguments), do: {:ok, Enum.reverse(arguments), rest}

  defp arguments(left, "$" <> rest, arguments) do
    with {:ok, size, rest} <- number(rest) do
      if byte_size(rest) >= size + 2 do
        {argument, "\r\n" <> rest} = split_at(rest, size)
        arguments(left - 1, rest, [argument | arguments])
      else
        :more
      end
    end
  end

  defp arguments(_left, "", _arguments), do: :more

  defp skip(<<type, rest::binary>>) when type in [?+, ?-, ?:] do
    with [_line, rest] <- :binary.split(rest, "\r\n"), do: {:ok, rest}, else: (_ -> :more)
  end

  defp skip("$" <> rest) do
    case number(rest) do
      {:ok, -1, rest} ->
        {:ok, rest}

      {:ok, size, rest} when byte_size(rest) >= size + 2 ->
        {:ok, rest |> split_at(size + 2) |> elem(1)}

      _ ->
        :more
    end
  end

  defp skip("*" <> rest) do
    with {:ok, count, rest} <- number(rest), do: skip(max(count, 0), rest)
  end

  defp skip(""), do: :more

  defp skip(0, rest), do: {:ok, rest}
  defp skip(count, rest), do: with({:ok, rest} <- skip(rest), do: skip(count - 1, rest))

  defp split_at(bytes, size) do
    {binary_part(bytes, 0, size), binary_part(bytes, size, byte_size(bytes) - size)}
  end

  defp number(bytes) do
    case :binary.split(bytes, "\r\n") do
      [digits, rest] -> {:ok, String.to_integer(digits), rest}
      [_] -> :more
    end
  end
end
