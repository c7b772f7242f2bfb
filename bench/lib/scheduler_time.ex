defmodule PowRedisCache.Bench.SchedulerTime do
  @moduledoc "Measures for how long a get occupies a scheduler in the NIF."

  alias PowRedisCache.{Native, RedisServer}
  alias PowRedisCache.Bench.{Dataset, LoadGenerator, Runner}

  @name __MODULE__
  @users 1_000
  @warm_up 1_000

  def run(settings) do
    server = RedisServer.start!()
    Runner.load(server, @users, 1)
    {:ok, pid} = PowRedisCache.start_link(name: @name, url: RedisServer.url(server))
    result = for callers <- [1, 64], do: measure(callers, settings.ms * settings.rounds)
    GenServer.stop(pid)
    RedisServer.stop(server)
    result
  end

  defp measure(callers, ms) do
    prepare = fn _caller -> nil end
    LoadGenerator.run(callers, {:times, @warm_up}, prepare, &call/3, &Map.new/0)
    collector = self()
    # LoadGenerator measures whole calls, so the time in the NIF is collected here.
    call = fn caller, number, prepared -> send(collector, call(caller, number, prepared)) end
    LoadGenerator.run(callers, {:for, ms}, prepare, call, &Map.new/0)
    sorted = Enum.sort(received([]))
    number = length(sorted)

    %{callers: callers, calls: number, mean_us: Enum.sum(sorted) / number / 1_000}
    |> Map.merge(
      for {name, part} <- [p50_us: 0.5, p99_us: 0.99, p999_us: 0.999],
          into: %{},
          do: {name, Runner.percentile(sorted, number, part)}
    )
  end

  defp call(caller, number, _prepared) do
    %{native: instance} = PowRedisCache.Instance.fetch!(@name, :get)
    session = Dataset.session(rem(caller * 7919 + number, @users) + 1, 1)
    key = :erlang.term_to_binary(["credentials", session])
    reference = make_ref()
    begin = :erlang.monotonic_time(:nanosecond)
    {:ok, _handle} = Native.get(instance, reference, key, false)
    time = :erlang.monotonic_time(:nanosecond) - begin
    receive(do: ({^reference, {:value, _session}} -> time))
  end

  defp received(times) do
    receive do
      time when is_integer(time) -> received([time | times])
    after
      0 -> times
    end
  end
end
