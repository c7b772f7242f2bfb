defmodule PowRedisCache.Call do
  @moduledoc false
  # The way of a call: encode, hand over to the native library, wait, decode.

  alias PowRedisCache.{Config, Error, Instance, Native, Telemetry}

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
        Native.put(instance.native, reference, records, ttl)
      else
        Native.put_many(instance.native, reference, records, ttl)
      end
    end)
  end

  def delete(name, config, key) do
    instance = Instance.fetch!(name, :delete)
    key = encode_key(namespace(config), key)

    submit(name, instance, :delete, writes(config, instance), fn reference ->
      Native.delete(instance.native, reference, key)
    end)
  end

  def get(name, config, key) do
    instance = Instance.fetch!(name, :get)
    key = encode_key(namespace(config), key)

    case read(name, instance, :get, :not_found, &Native.get(instance.native, &1, key)) do
      {:value, value} ->
        value

      :invalid ->
        Instance.report(name, {:invalid_values, 1})
        :not_found

      :not_found ->
        :not_found
    end
  end

  def all(name, config, match) do
    instance = Instance.fetch!(name, :all)
    pattern = encode_key(namespace(config), match)

    case read(name, instance, :all, [], &Native.all(instance.native, &1, pattern)) do
      {:records, records, invalid} ->
        if invalid > 0, do: Instance.report(name, {:invalid_values, invalid})

        # Stable: keys that are equal but not the same, as 1 and 1.0, keep the order of their bytes.
        for {parts, value} <- List.keysort(records, 0), do: {unwrap(parts), value}

      [] ->
        []
    end
  end

  def ping(name) do
    instance = Instance.fetch!(name, :ping)
    submit(name, instance, :ping, :sync, &Native.ping(instance.native, &1))
  end

  def reindex_page(name, cursor, dry_run) do
    instance = Instance.fetch!(name, :reindex)
    native = &Native.reindex(instance.native, &1, cursor, dry_run)
    {:page, page} = submit(name, instance, :reindex, :sync, native)
    page
  end

  # A read that fails may count as a miss.
  defp read(name, instance, operation, miss, native) do
    submit(name, instance, operation, :sync, native)
  rescue
    error in Error ->
      if instance.on_error == :raise or error.reason == :not_started do
        reraise error, __STACKTRACE__
      end

      Instance.report(name, {:missed, error})
      miss
  end

  # The answer, or a raised error.
  defp submit(name, %{telemetry?: true} = instance, operation, writes, native) do
    Telemetry.call(name, operation, fn -> outcome(name, instance, operation, writes, native) end)
    |> answer!()
  end

  defp submit(name, instance, operation, writes, native) do
    name |> outcome(instance, operation, writes, native) |> answer!()
  end

  defp answer!({:error, error}), do: raise(error)
  defp answer!(answer), do: answer

  defp outcome(name, instance, operation, writes, native) do
    with {:error, reason} <- exchange(instance, writes, native) do
      {:error, error(name, operation, reason)}
    end
  end

  defp exchange(_instance, :async, native) do
    with {:ok, _handle} <- native.(:async), do: :ok
  end

  defp exchange(instance, :sync, native) do
    reference = make_ref()

    with {:ok, handle} <- native.(reference) do
      await(reference, instance.native, handle, instance.timeout)
    end
  end

  # Either the answer wins or the cancellation: nothing is left in the mailbox.
  defp await(reference, native, handle, timeout) do
    receive do
      {^reference, result} -> result
    after
      timeout ->
        with :completed <- Native.cancel(native, handle) do
          receive do
            {^reference, result} -> result
          end
        end
    end
  end

  defp error(name, operation, :not_started), do: Instance.not_started(name, operation)

  defp error(_name, _operation, {reason, details})
       when reason in [:invalid_key, :invalid_value, :invalid_pattern] do
    ArgumentError.exception(invalid(reason, details))
  end

  defp error(_name, operation, reason), do: Error.from_native(operation, reason)

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

  defp unwrap([key]), do: key
  defp unwrap(parts), do: parts
end
