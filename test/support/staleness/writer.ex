defmodule PowRedisCache.Staleness.Writer do
  @moduledoc """
  Writes random values to keys, through instances and with another client, and records it. Reads the key
  again through the instance that wrote it.
  """

  alias PowRedisCache.{Error, PowGuideStore}
  alias PowRedisCache.Staleness.{History, Raw, Reader}

  # In milliseconds.
  @ttl :timer.hours(1)

  defstruct [:history, :instances, :readers, :raw, :namespace, :keys, :shared]

  @type t :: %__MODULE__{}

  @doc """
  Options: `:history`, `:instances`, `:raw`, `:namespace`, `:keys`, and `:shared`, whether other writers
  write them, too.
  """
  def new(options) do
    writer = struct!(__MODULE__, options)
    readers = for instance <- writer.instances, do: Reader.new(writer.history, instance)
    %{writer | readers: Map.new(readers, &{&1.instance.number, &1})}
  end

  @doc "Writes until the process gets `:stop`."
  @spec run(t()) :: :ok
  def run(writer) do
    receive do
      :stop -> Enum.each(writer.readers, fn {_number, reader} -> Reader.close(reader) end)
    after
      pause() ->
        key = Enum.random(writer.keys)

        writer =
          if :rand.uniform(4) == 1,
            do: write_raw(writer, key),
            else: write(writer, Enum.random(writer.instances), key)

        run(writer)
    end
  end

  @doc "Deletes a key through an instance until that succeeds, so that no earlier write of it is applied."
  def settle(writer, instance, key) do
    case delete(writer, instance, key) do
      :failed ->
        Process.sleep(20)
        settle(writer, instance, key)

      _done ->
        :ok
    end
  end

  # Often at once, and sometimes so late that nothing else ends the life of the value in a near cache.
  defp pause do
    case :rand.uniform(10) do
      n when n <= 4 -> :rand.uniform(20)
      n when n <= 8 -> :rand.uniform(500)
      _ -> 1_000 + :rand.uniform(2_500)
    end
  end

  defp write(writer, instance, key) do
    keys = if writer.shared, do: Enum.uniq([key, Enum.random(writer.keys)]), else: [key]

    outcome =
      case :rand.uniform(100) do
        n when n <= 50 -> put(writer, instance, keys, [])
        n when n <= 65 -> put(writer, instance, keys, ttl: short_ttl())
        n when n <= 88 -> delete(writer, instance, key)
        n when n <= 95 -> put_new(writer, instance, key)
        _ -> put(writer, instance, [key], writes: :async)
      end

    if outcome == :failed, do: Enum.each(keys, &settle(writer, instance, &1))
    update_in(writer.readers[instance.number], &Reader.get(&1, key))
  end

  defp put(writer, instance, keys, options) do
    records = for key <- keys, do: {key, value()}
    options = Keyword.put_new(options, :ttl, @ttl)
    call = fn -> instance.put.(records, options) end

    attempt(call, fn outcome, from, to ->
      # An asynchronous one is applied some time later.
      outcome = if outcome == :failed or options[:writes] == :async, do: :unknown, else: :done

      for {key, {number, _padding}} <- records,
          do:
            record_value(writer, key, number, instance.number, {from, to}, outcome, options[:ttl])
    end)
  end

  defp delete(writer, instance, key) do
    attempt(fn -> instance.delete.(key) end, fn outcome, from, to ->
      outcome = if outcome == :failed, do: :unknown, else: :done
      record_absence(writer, key, instance.number, {from, to}, outcome)
    end)
  end

  defp put_new(writer, instance, key) do
    {number, _padding} = value = value()

    attempt(fn -> instance.put_new.({key, value}, ttl: @ttl) end, fn
      # There was a record.
      false, _from, _to ->
        :ok

      true, from, to ->
        record_value(writer, key, number, instance.number, {from, to}, :done, @ttl)

      :failed, from, to ->
        record_value(writer, key, number, instance.number, {from, to}, :unknown, @ttl)
    end)
  end

  # Calls a function, and another with the result and the times. Returns the result.
  defp attempt(call, record) do
    from = History.now()

    result =
      try do
        call.()
      rescue
        Error -> :failed
      end

    record.(result, from, History.now())
    result
  end

  defp write_raw(writer, key) do
    path = PowGuideStore.path(%PowGuideStore{}, [writer.namespace | key])
    {number, _padding} = value = value()
    bytes = :erlang.term_to_binary(value)
    set = ["SET", path, bytes]
    ttl = short_ttl()

    case :rand.uniform(10) do
      n when n <= 3 -> raw_value(writer, key, number, nil, [set])
      n when n <= 5 -> raw_value(writer, key, number, ttl, [set ++ ["PX", ttl]])
      6 -> raw_value(writer, key, number, nil, [["MULTI"], set, ["EXEC"]])
      7 -> raw_value(writer, key, number, nil, [["EVAL", script(), 1, path, bytes]])
      8 -> raw_absence(writer, key, [["UNLINK", path]])
      9 when not writer.shared -> expire(writer, key, path, ttl)
      _ -> raw_absence(writer, key, [["DEL", path]])
    end

    writer
  end

  defp script, do: "redis.call('set', KEYS[1], ARGV[1])"

  defp raw_value(writer, key, number, ttl, commands) do
    raw(writer, key, commands, fn times, outcome, _replies ->
      record_value(writer, key, number, :raw, times, outcome, ttl)
    end)
  end

  defp raw_absence(writer, key, commands) do
    raw(writer, key, commands, fn times, outcome, _replies ->
      record_absence(writer, key, :raw, times, outcome)
    end)
  end

  # Shortens the time to live. No other process writes the key, so it is absent afterwards.
  defp expire(writer, key, path, ttl) do
    raw(writer, key, [["PEXPIRE", path, ttl, "LT"]], fn
      # There is no record, or it expires earlier.
      _times, :done, [0] ->
        :ok

      {from, to}, outcome, _replies ->
        record_absence(writer, key, :raw, {from, later(to, ttl * 1_000)}, outcome)
        Process.sleep(ttl + 2)
    end)
  end

  defp raw(writer, key, commands, record) do
    from = History.now()

    case Raw.run(writer.raw, key, commands) do
      {:ok, replies} -> record.({from, History.now()}, :done, replies)
      :lost -> record.({from, History.now()}, :unknown, [])
      :pending -> record.({from, :never}, :unknown, [])
      # While there is no server, for example.
      :refused -> Process.sleep(20)
    end
  end

  defp later(:never, _time), do: :never
  defp later(time, more), do: time + more

  defp record_value(writer, key, number, by, {from, to}, outcome, ttl) do
    ttl = ttl && ttl * 1_000
    write = %{key: key, value: number, by: by, from: from, to: to, outcome: outcome, ttl: ttl}
    History.record(writer.history, :write, write)
  end

  defp record_absence(writer, key, by, times, outcome),
    do: record_value(writer, key, :absent, by, times, outcome, nil)

  # The number is unique. Binaries of more than 64 bytes lie outside of the heap.
  defp value do
    number = System.unique_integer([:positive, :monotonic])
    {number, String.duplicate("v", Enum.random([0, 40, 400]))}
  end

  defp short_ttl, do: 50 + :rand.uniform(1_500)
end
