defmodule PowRedisCache.Bench.NearDeletion do
  @moduledoc """
  Measures for how long a session that another instance deletes is still read from the near cache, while
  many callers read.
  """

  alias PowRedisCache.Bench.{NearData, Runner}

  @callers 64

  @doc """
  Returns percentiles of the time from the beginning of a delete, and from its end, to the beginning of the
  last read that returned the session.
  """
  def run(settings) do
    sessions = max(100, settings.rounds * settings.ms)

    NearData.with_redis(sessions + 1, fn server ->
      near = NearData.start_ours(:near, server.port, near_cache: true)
      other = NearData.start_ours(:other, server.port, near_cache: false)
      times = delete_all(near, other, sessions)
      near.stop.()
      other.stop.()

      for {from, times} <- times, sorted = Enum.sort(times), into: %{sessions: sessions} do
        {from,
         Map.new(
           [p50_us: 0.5, p99_us: 0.99, max_us: 1.0],
           fn {key, part} -> {key, Runner.percentile(sorted, sessions, part)} end
         )}
      end
    end)
  end

  # `current` is the session that all callers read; `served` when each of them began to read it last, and
  # `refused` how many have found it deleted.
  defp delete_all(near, other, sessions) do
    current = :atomics.new(1, [])
    served = :atomics.new(@callers, [])
    refused = :atomics.new(sessions + 1, [])
    :atomics.put(current, 1, 1)

    callers =
      for caller <- 1..@callers,
          do: spawn_link(fn -> read_on(near, caller, current, served, refused) end)

    # Deletes do not wait for the callers' turns.
    priority = Process.flag(:priority, :high)
    times = for number <- 1..sessions, do: delete(other, number, current, served, refused)
    Process.flag(:priority, priority)

    for caller <- callers do
      Process.unlink(caller)
      Process.exit(caller, :kill)
    end

    [from_begin: Enum.map(times, &elem(&1, 0)), from_end: Enum.map(times, &elem(&1, 1))]
  end

  defp read_on(near, caller, current, served, refused) do
    read(near, caller, current, served, refused)
    read_on(near, caller, current, served, refused)
  end

  defp read(near, caller, current, served, refused) do
    number = :atomics.get(current, 1)
    begin = now()

    case Process.get(:refused) != number && near.get.(NearData.session(number)) do
      # Until the next one is current, that one.
      false ->
        near.get.(NearData.session(number + 1))

      :not_found ->
        Process.put(:refused, number)
        :atomics.add(refused, number, 1)

      _session ->
        :atomics.put(served, caller, begin)
    end
  end

  defp delete(other, number, current, served, refused) do
    start = now()
    :atomics.put(current, 1, number)
    wait(fn -> Enum.all?(1..@callers, &(:atomics.get(served, &1) > start)) end)
    begin = now()
    :ok = other.delete.(NearData.session(number))
    done = now()
    wait(fn -> :atomics.get(refused, number) == @callers end)
    last = 1..@callers |> Enum.map(&:atomics.get(served, &1)) |> Enum.max()
    {max(0, last - begin), max(0, last - done)}
  end

  # A pause that takes no processor time from the callers.
  defp wait(condition) do
    unless condition.() do
      Process.sleep(1)
      wait(condition)
    end
  end

  # Monotonic time is negative, which is before the zero that an atomic begins with.
  defp now do
    native = :erlang.monotonic_time() - :erlang.system_info(:start_time)
    System.convert_time_unit(native, :native, :nanosecond)
  end
end
