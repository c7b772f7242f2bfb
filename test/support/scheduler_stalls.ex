defmodule PowRedisCache.SchedulerStalls do
  @moduledoc """
  Measures for how long the machine did not run this VM. A process wakes up every few milliseconds and
  records late wake-ups, so that tests can subtract the stalls of a busy machine from the time of a call.
  """

  use GenServer

  @pause 5

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The milliseconds of stalls between two readings of the clock."
  def between(from, to) do
    # Includes a stall that has not been recorded yet.
    GenServer.call(__MODULE__, :record, 60_000)

    :ets.foldl(
      fn {due, woke_at}, sum -> sum + max(min(woke_at, to) - max(due, from), 0) end,
      0,
      __MODULE__
    )
  end

  @doc "Calls a function and returns its result and the milliseconds it took, without stalls."
  def time(function) do
    from = now()
    result = function.()
    to = now()
    took = to - from
    {result, if(took < 100, do: took, else: took - between(from, to))}
  end

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table])
    {:ok, now() + @pause, @pause}
  end

  @impl true
  def handle_info(:timeout, due), do: wait_again(due)

  @impl true
  def handle_call(:record, _from, due) do
    {:noreply, due, timeout} = wait_again(due)
    {:reply, :ok, due, timeout}
  end

  defp wait_again(due) do
    now = now()
    if now > due + 1, do: :ets.insert(__MODULE__, {due, now})
    {:noreply, now + @pause, @pause}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
