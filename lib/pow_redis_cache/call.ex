defmodule PowRedisCache.Call do
  @moduledoc false
  # The way of a call: encode, hand over to the native library, wait, decode.

  alias PowRedisCache.{Config, Error, Instance, Native}

  # More records than these are encoded on a dirty scheduler.
  @few_records 32

  def put(_name, _config, []), do: :ok

  def put(name, config, record_or_records) do
    instance = Instance.fetch!(name, :put)
    ttl = Config.ttl!(config, instance.default_ttl, name)
    namespace = namespace(config)
    records = record_or_records |> List.wrap() |> Enum.map(&encode_record(namespace, &1))

    submit(name, instance, :put, writes(config, instance), fn reference ->
      if length(records) <= @few_records do
        Native.put(name, reference, records, ttl)
      else
        Native.put_many(name, reference, records, ttl)
      end
    end)
  end

  def delete(name, config, key) do
    instance = Instance.fetch!(name, :delete)
    key = encode_key(namespace(config), key)

    submit(name, instance, :delete, writes(config, instance), fn reference ->
      Native.delete(name, reference, key)
    end)
  end

  def get(name, config, key) do
    instance = Instance.fetch!(name, :get)
    key = encode_key(namespace(config), key)

    with {:value, value} <-
           submit(name, instance, :get, :sync, &Native.get(name, &1, key)) do
      case decode(value, instance) do
        {:ok, term} ->
          term

        :error ->
          Instance.report_refused(name, 1)
          :not_found
      end
    end
  end

  def all(name, config, match) do
    instance = Instance.fetch!(name, :all)
    pattern = encode_key(namespace(config), match)

    {:records, records} = submit(name, instance, :all, :sync, &Native.all(name, &1, pattern))

    decoded =
      for <<size::32, key::binary-size(size), rest_size::32,
            value::binary-size(rest_size) <- records>>,
          do: decode_record(key, value, instance)

    kept = for {_key, _value} = record <- decoded, do: record

    if length(kept) < length(decoded) do
      Instance.report_refused(name, length(decoded) - length(kept))
    end

    # Stable: keys that are equal but not the same, as 1 and 1.0, keep the order of their bytes.
    for {parts, value} <- List.keysort(kept, 0), do: {unwrap(parts), value}
  end

  def ping(name) do
    instance = Instance.fetch!(name, :ping)
    submit(name, instance, :ping, :sync, &Native.ping(name, &1))
  end

  def reindex_page(name, cursor) do
    instance = Instance.fetch!(name, :reindex)

    {:page, page} = submit(name, instance, :reindex, :sync, &Native.reindex(name, &1, cursor))

    page
  end

  defp submit(name, _instance, operation, :async, native) do
    case native.(:async) do
      {:ok, _ticket} -> :ok
      {:error, reason} -> fail(name, operation, reason)
    end
  end

  defp submit(name, instance, operation, :sync, native) do
    reference = make_ref()

    with {:ok, ticket} <- native.(reference),
         {:error, reason} <- await(reference, ticket, instance.timeout) do
      fail(name, operation, reason)
    else
      {:error, reason} -> fail(name, operation, reason)
      result -> result
    end
  end

  # Either the answer wins or the cancellation: nothing is left in the mailbox.
  defp await(reference, ticket, timeout) do
    receive do
      {^reference, result} -> result
    after
      timeout ->
        if Native.cancel(ticket) do
          {:error, {:timeout, %{}}}
        else
          receive do
            {^reference, result} -> result
          end
        end
    end
  end

  @spec fail(atom(), atom(), term()) :: no_return()
  defp fail(name, operation, :not_started), do: Instance.not_started!(name, operation)

  defp fail(_name, _operation, {reason, details})
       when reason in [:invalid_key, :invalid_value, :invalid_pattern] do
    raise ArgumentError, invalid(reason, details)
  end

  defp fail(_name, operation, reason), do: raise(Error.from_native(operation, reason))

  defp invalid(:invalid_key, %{problem: :not_a_list}),
    do: "expected the key to be a binary, an atom or a proper list, got an improper list"

  defp invalid(:invalid_pattern, %{problem: :variable_as_map_key}),
    do: "expected the keys of a map in a pattern to be literal, got :_ or a variable"

  defp invalid(reason, %{problem: problem}) do
    what = %{invalid_key: "key", invalid_value: "value", invalid_pattern: "pattern"}[reason]

    case problem do
      :function -> "expected a #{what} without functions, since they do not outlive a deploy"
      :depth -> "expected a #{what} nested at most 256 terms deep"
      :malformed -> "expected a #{what} of plain terms, got one that can't be encoded"
    end
  end

  defp namespace(config), do: Config.get(config, :namespace, "cache")

  defp writes(config, instance), do: Keyword.get(config, :writes, instance.writes)

  defp encode_record(namespace, {key, value}) do
    {encode_key(namespace, key), :erlang.term_to_binary(value)}
  end

  defp encode_record(_namespace, _other) do
    raise ArgumentError, "expected a record {key, value} or a list of records"
  end

  defp encode_key(namespace, key), do: :erlang.term_to_binary([namespace | List.wrap(key)])

  defp decode_record(key, value, instance) do
    with {:ok, key} <- decode(key, instance), {:ok, value} <- decode(value, instance) do
      {key, value}
    end
  end

  # The bytes were checked in Rust; what is left for the VM to refuse are atoms, and rarities like a
  # map that has a key twice.
  defp decode(bytes, %{decode: :checked}), do: to_term(bytes, [])
  defp decode(bytes, %{decode: :safe}), do: to_term(bytes, [:safe])

  defp to_term(bytes, options) do
    {:ok, :erlang.binary_to_term(bytes, options)}
  rescue
    ArgumentError -> :error
  end

  defp unwrap([key]), do: key
  defp unwrap(parts), do: parts
end
