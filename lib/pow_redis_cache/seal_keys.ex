defmodule PowRedisCache.SealKeys do
  @moduledoc false
  # The keys of the option :seal: their forms, and what is wrong with them. No message shows a key or
  # an id, since an id may be a key by mistake.

  alias PowRedisCache.Shape

  @bytes 32
  @max_id 12
  # 32 random bytes have 30 different ones on average. Fewer than 16 are as likely as 1 in 10^15.
  @min_different 16

  @doc "Returns what is wrong with keys, or nil. Calls no function: what it returns is checked later."
  def problem(keys) do
    with {:ok, _keys} <- parse(keys, fn _function -> :unknown end),
         do: nil,
         else: ({_, problem} -> problem)
  end

  @doc "Returns `{:ok, [{id, key}]}`, each key as 32 bytes, or `{:error, problem}`. Calls the functions."
  def resolve(keys), do: parse(keys, &call/1)

  @doc "Returns a new random key as text, with an id."
  def generate(id), do: "#{id}:#{Base.encode64(:crypto.strong_rand_bytes(@bytes))}"

  @doc "Whether a string is the id of a key: 1 to 12 letters, digits, dots, hyphens or underscores."
  def id?(id), do: is_binary(id) and byte_size(id) in 1..@max_id and id =~ ~r/\A[A-Za-z0-9._-]+\z/

  defp parse(keys, call) do
    cond do
      Shape.callable?(keys) -> keys |> call.() |> returned(call)
      is_binary(keys) -> keys |> String.split(",") |> Enum.map(&split/1) |> entries(call)
      keys != [] and Shape.list?(keys) -> entries(keys, call)
      true -> {:error, Shape.of(keys)}
    end
  end

  defp returned(:unknown, _call), do: {:ok, []}
  defp returned({:error, problem}, _call), do: {:error, problem}

  defp returned({:ok, keys}, call) do
    # A function that returns functions would never end.
    if Shape.callable?(keys), do: {:error, Shape.of(keys)}, else: parse(keys, call)
  end

  # The text of a key: its id, a colon, and base64.
  defp split(text) do
    case text |> String.trim() |> String.split(":", parts: 2) do
      [id, key] -> {id, {:base64, key}}
      [_key] -> :no_id
    end
  end

  defp entries(entries, call) do
    keys = for {entry, position} <- Enum.with_index(entries, 1), do: entry(entry, position, call)

    with nil <- List.keyfind(keys, :error, 0),
         nil <- duplicate(keys, 1, "the same id"),
         nil <-
           keys
           |> Enum.reject(&match?({:ok, _id, :unknown}, &1))
           |> duplicate(2, "the same bytes") do
      {:ok, for({:ok, id, key} <- keys, do: {id, key})}
    end
  end

  defp duplicate(keys, element, what) do
    values = Enum.map(keys, &elem(&1, element))
    if Enum.uniq(values) != values, do: {:error, "two keys with #{what}"}
  end

  defp entry({id, key}, position, call) do
    with true <- id?(id) || "an id that is not 1 to #{@max_id} letters, digits, dots or hyphens",
         {:ok, key} <- key(key, call) do
      {:ok, id, key}
    else
      problem -> {:error, "key #{position} with #{problem}"}
    end
  end

  defp entry(:no_id, position, _call), do: {:error, "key #{position} without an id: write id:key"}

  defp entry(other, position, _call) do
    {:error, "#{Shape.of(other)} instead of {id, key} as element #{position}"}
  end

  # Returns the key as 32 bytes, or what is wrong.
  defp key({:base64, text}, _call), do: text |> base64() |> strong()
  defp key(<<_::binary-size(@bytes)>> = bytes, _call), do: strong({:ok, bytes})
  defp key(text, _call) when is_binary(text), do: text |> base64() |> strong()

  defp key(value, call) do
    if Shape.callable?(value) do
      case call.(value) do
        :unknown -> {:ok, :unknown}
        {:error, problem} -> problem
        {:ok, key} when is_binary(key) -> key(key, call)
        {:ok, other} -> Shape.of(other)
      end
    else
      "#{Shape.of(value)} instead of 32 bytes"
    end
  end

  defp base64(text) do
    text = text |> String.trim() |> String.trim_trailing("=")

    with :error <- Base.decode64(text, padding: false) do
      Base.url_decode64(text, padding: false)
    end
  end

  defp strong({:ok, <<_::binary-size(@bytes)>> = bytes}) do
    different = bytes |> :binary.bin_to_list() |> Enum.uniq() |> length()

    cond do
      String.printable?(bytes) -> "text instead of random bytes"
      different < @min_different -> "bytes that are not random"
      true -> {:ok, bytes}
    end
  end

  defp strong({:ok, bytes}), do: "#{byte_size(bytes)} bytes instead of #{@bytes}"
  defp strong(:error), do: "neither 32 bytes nor base64"

  # The message of an exception, and what is thrown, may hold a key.
  defp call({module, function, arguments}), do: call(fn -> apply(module, function, arguments) end)

  defp call(function) do
    {:ok, function.()}
  rescue
    error -> {:error, "a function that failed (#{inspect(error.__struct__)})"}
  catch
    kind, _reason -> {:error, "a function that failed (#{inspect(kind)})"}
  end
end
