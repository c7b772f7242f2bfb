defmodule PowRedisCache.Bench.LoadGenerator do
  @moduledoc "Callers that call in a loop, each as soon as its last call has returned."

  @doc """
  Runs `callers` callers. Each one prepares, which is not measured, and then calls for `{:for, ms}`
  milliseconds, `{:times, n}` times, or `{:while, pid}` is alive. `call.(caller, number, prepared)` checks
  its result.

  Returns the time of each call and the total duration, in nanoseconds, and the difference of `counters`
  before the first call and after the last.
  """
  def run(callers, extent, prepare, call, counters) do
    parent = self()

    pids =
      for caller <- 1..callers,
          do: spawn_link(fn -> caller(parent, caller, extent, prepare, call) end)

    for pid <- pids, do: receive(do: ({^pid, :ready} -> :ok))
    before = counters.()
    begin = now()
    for pid <- pids, do: send(pid, :go)
    times = Enum.flat_map(pids, fn pid -> receive(do: ({^pid, times} -> times)) end)
    {times, now() - begin, difference(before, counters.())}
  end

  defp difference(before, later), do: Map.new(later, fn {key, n} -> {key, n - before[key]} end)

  defp caller(parent, caller, extent, prepare, call) do
    prepared = prepare.(caller)
    send(parent, {self(), :ready})
    receive(do: (:go -> :ok))
    send(parent, {self(), calls(extent, &call.(caller, &1, prepared))})
  end

  defp calls({:times, times}, call) do
    for number <- 1..times do
      begin = now()
      call.(number)
      now() - begin
    end
  end

  defp calls({:for, ms}, call) do
    finish = now() + ms * 1_000_000
    calls_while(&(&1 < finish), now(), 1, call, [])
  end

  defp calls({:while, pid}, call) do
    calls_while(fn _now -> Process.alive?(pid) end, now(), 1, call, [])
  end

  defp calls_while(continue?, begin, number, call, times) do
    call.(number)
    done = now()
    times = [done - begin | times]
    if continue?.(done), do: calls_while(continue?, done, number + 1, call, times), else: times
  end

  defp now, do: :erlang.monotonic_time(:nanosecond)
end
