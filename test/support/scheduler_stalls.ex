defmodule PowRedisCache.SchedulerStalls do
  @moduledoc """
  How long the VM did not run us: a process that wakes up every few milliseconds and notes when it
  woke late. What a busy machine adds to the time of a call can so be taken off.
  """

  use GenServer

  @pause 5

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "For how many milliseconds, of those between two readings of the clock, we were not run."
  def between(from, to) do
    # What is being noted at the moment, too.
    GenServer.call(__MODULE__, :note, 60_000)

    :ets.foldl(
      fn {due, woke}, sum -> sum + max(min(woke, to) - max(due, from), 0) end,
      0,
      __MODULE__
    )
  end

  @doc "Runs a function; its result, and the milliseconds it took, without those we were not run."
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
  def handle_call(:note, _from, due) do
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
