defmodule PowRedisCache.Call do
  @moduledoc false
  # The life of a call: encode the key, submit the request to the native library, wait for the
  # result, decode it.

  alias PowRedisCache.{Config, Error, Instance, Native, NearCache, Telemetry}

  # Larger arguments of native functions are handled on a dirty scheduler, so that no call holds a
  # normal one for more than a millisecond. `mix run bench/nif_time.exs` measures it.
  @max_key_bytes 1_024
  @max_record_bytes 16_384
  # A key is encoded again, with index entries, which takes longer than checking a value.
  @key_weight 8

  def put(_name, _config, []), do: :ok

  def put(name, config, record_or_records) do
    instance = Instance.fetch!(name, :put)
    ttl = Config.ttl!(config, instance.default_ttl, name)
    namespace = namespace(config)
    records = record_or_records |> records() |> Enum.map(&encode_record(namespace, &1))

    submit(name, instance, :put, writes(config, instance), fn reference ->
      if small?(records, @max_record_bytes) do
        Native.put(instance.native, reference, records, ttl)
      else
        Native.put_large(instance.native, reference, records, ttl)
      end
    end)
  end

  def put_new(name, config, record) do
    instance = Instance.fetch!(name, :put_new)
    ttl = Config.ttl!(config, instance.default_ttl, name)
    {key, value} = record = encode_record(namespace(config), record)

    submit(name, instance, :put_new, :sync, fn reference ->
      if small?([record], @max_record_bytes) do
        Native.put_new(instance.native, reference, key, value, ttl)
      else
        Native.put_new_large(instance.native, reference, key, value, ttl)
      end
    end)
  end

  def delete(name, config, key) do
    instance = Instance.fetch!(name, :delete)
    key = encode_key(namespace(config), key)

    submit(name, instance, :delete, writes(config, instance), fn reference ->
      if byte_size(key) <= @max_key_bytes do
        Native.delete(instance.native, reference, key)
      else
        Native.delete_large(instance.native, reference, key)
      end
    end)
  end

  def get(name, config, key) do
    instance = Instance.fetch!(name, :get)
    namespace = namespace(config)

    case NearCache.fetch(instance.near_cache, namespace, key) do
      {:ok, value} -> value
      missing -> get_from_redis(name, instance, namespace, key, missing == :miss)
    end
  end

  # `near?` is whether the value is to be kept in the near cache.
  defp get_from_redis(name, instance, namespace, key, near?) do
    encoded = encode_key(namespace, key)

    native = fn reference ->
      if byte_size(encoded) <= @max_key_bytes do
        Native.get(instance.native, reference, encoded, near?)
      else
        Native.get_large(instance.native, reference, encoded, near?)
      end
    end

    case read(name, instance, :get, :not_found, native) do
      {:value, value} ->
        value

      {:value, value, stamp} ->
        NearCache.store(instance.near_cache, namespace, key, value, stamp)
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
    namespace = namespace(config)
    near? = NearCache.keeps?(instance.near_cache, namespace)
    pattern = encode_key(namespace, match)

    native = fn reference ->
      if byte_size(pattern) <= @max_key_bytes do
        Native.all(instance.native, reference, pattern, near?)
      else
        Native.all_large(instance.native, reference, pattern, near?)
      end
    end

    case read(name, instance, :all, [], native) do
      {:records, records, invalid} ->
        if invalid > 0, do: Instance.report(name, {:invalid_values, invalid})

        # The sort is stable: keys that compare equal, like 1 and 1.0, stay in byte order.
        for {parts, value} <- List.keysort(records, 0), do: {unwrap_key(parts), value}

      [] ->
        []
    end
  end

  @doc "The state of an instance, and of its near cache."
  def info(name) do
    instance = Instance.fetch!(name, :info)

    case Native.info(instance.native) do
      {:error, :not_started} -> Instance.not_started!(name, :info)
      %{near_cache: nil} = info -> info
      info -> Map.update!(info, :near_cache, &Map.merge(&1, NearCache.info(instance.near_cache)))
    end
  end

  def ping(name) do
    instance = Instance.fetch!(name, :ping)
    submit(name, instance, :ping, :sync, &Native.ping(instance.native, &1))
  end

  @doc """
  Calls a function, in which failed reads of this process raise, also with `on_error: :miss`: for functions
  that would do nothing and report success if they found nothing.
  """
  def strictly(function) do
    before = Process.put(__MODULE__, :strict)

    try do
      function.()
    after
      unless before, do: Process.delete(__MODULE__)
    end
  end

  defp strict?, do: Process.get(__MODULE__) == :strict

  @doc "Reindexes, prunes or reseals the page at a position."
  def page(name, scan, position, dry_run) do
    operation = if scan == :reseal, do: :reseal, else: :reindex
    instance = Instance.fetch!(name, operation)

    {:page, page} =
      submit(name, instance, operation, :sync, native(scan, instance, position, dry_run))

    page
  end

  defp native(:reindex, instance, position, dry_run),
    do: &Native.reindex(instance.native, &1, position, dry_run)

  defp native(:prune, instance, position, dry_run),
    do: &Native.prune(instance.native, &1, position, dry_run)

  defp native(:reseal, instance, position, dry_run),
    do: &Native.reseal(instance.native, &1, position, dry_run)

  # Whether the records have at most so many bytes. Looks at no more of them than necessary.
  defp small?([], _bytes), do: true

  defp small?([{key, value} | records], bytes) do
    left = bytes - @key_weight * byte_size(key) - byte_size(value)
    left >= 0 and small?(records, left)
  end

  # With `on_error: :miss`, a failed read counts as a miss.
  defp read(name, instance, operation, miss, native) do
    submit(name, instance, operation, :sync, native)
  rescue
    error in Error ->
      if instance.on_error == :raise or strict?() or error.reason == :not_started do
        reraise error, __STACKTRACE__
      end

      Instance.report(name, {:missed, error})
      miss
  end

  defp submit(name, %{telemetry?: true} = instance, operation, writes, native) do
    Telemetry.call(name, operation, fn -> result(name, instance, operation, writes, native) end)
    |> unwrap!()
  end

  defp submit(name, instance, operation, writes, native) do
    name |> result(instance, operation, writes, native) |> unwrap!()
  end

  defp unwrap!({:error, error}), do: raise(error)
  defp unwrap!(result), do: result

  defp result(name, instance, operation, writes, native) do
    with {:error, reason} <- request(instance, writes, native) do
      {:error, error(name, instance, operation, reason)}
    end
  end

  defp request(_instance, :async, native) do
    with {:ok, _handle} <- native.(:async), do: :ok
  end

  defp request(instance, :sync, native) do
    reference = make_ref()

    with {:ok, handle} <- native.(reference) do
      await(reference, instance.native, handle, instance.timeout)
    end
  end

  # If the cancel handle reports `:completed`, the result is already on its way and must be
  # received: otherwise it would stay in the mailbox.
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

  defp error(name, _instance, operation, :not_started), do: Instance.not_started(name, operation)

  defp error(_name, _instance, _operation, {reason, details})
       when reason in [:invalid_key, :invalid_value, :invalid_pattern] do
    ArgumentError.exception(invalid(reason, details))
  end

  defp error(_name, instance, operation, reason) do
    Error.from_native(operation, reason, instance.topology)
  end

  defp invalid(:invalid_key, %{problem: :not_a_list}),
    do: "expected the key to be a binary, an atom or a proper list, got: an improper list"

  defp invalid(:invalid_pattern, %{problem: :variable_as_map_key}),
    do: "expected literal map keys in the pattern, got: :_ or a variable"

  defp invalid(reason, %{problem: problem}) do
    what = %{invalid_key: "key", invalid_value: "value", invalid_pattern: "pattern"}[reason]

    case problem do
      :function ->
        "expected a #{what} without functions: a function does not survive a deploy"

      :depth ->
        "expected a #{what} nested at most 256 terms deep"

      :too_long ->
        "expected a #{what} of at most #{length_limit(reason)}. Shorten it"

      :too_large ->
        "expected a #{what} that takes at most 128 MB of memory. Store less in it"

      :too_many_atoms ->
        "expected a #{what} with at most 8,192 different atoms. Use strings as keys of large maps"

      :malformed ->
        "expected a #{what} that can be encoded, got a term that is not supported"
    end
  end

  defp length_limit(:invalid_value), do: "64 MB when encoded"
  defp length_limit(_reason), do: "64 parts and 16 kB when encoded"

  defp namespace(config), do: Config.get(config, :namespace, "cache")

  defp writes(config, instance), do: Config.own(config, :writes, instance.writes)

  # An improper list would show up in the stack trace, with its values.
  defp records(records) when is_list(records) do
    if List.improper?(records), do: not_a_record!(), else: records
  end

  defp records(record), do: [record]

  defp encode_record(namespace, {key, value}) do
    {encode_key(namespace, key), :erlang.term_to_binary(value)}
  end

  defp encode_record(_namespace, _other), do: not_a_record!()

  defp not_a_record! do
    raise ArgumentError, "expected a record {key, value} or a list of records"
  end

  defp encode_key(namespace, key), do: :erlang.term_to_binary([namespace | List.wrap(key)])

  defp unwrap_key([part]), do: part
  defp unwrap_key(parts), do: parts
end
