defmodule PowRedisCache.Staleness.Faults do
  @moduledoc """
  Causes one fault after the other, in random order, while values are written and read. Each kind comes once
  before the first comes again. What faults need and change is a map with the running `:check`.

  With `POW_REDIS_CACHE_STALENESS_FAULTS=server_hangs,flushed`, only these kinds, to search for the cause of
  a violation.
  """

  alias PowRedisCache.{Staleness, Wait}

  @type world :: %{required(:check) => struct(), optional(atom()) => term()}

  @doc "Causes faults for a number of seconds. A fault is its kind and a function of the world. Returns the world."
  @spec run(world(), [{atom(), (world() -> world())}], number()) :: world()
  def run(world, faults, seconds) do
    faults = chosen(faults, System.get_env("POW_REDIS_CACHE_STALENESS_FAULTS"))
    run(world, Enum.shuffle(faults), faults, now() + trunc(seconds * 1_000))
  end

  defp run(world, [], faults, deadline), do: run(world, Enum.shuffle(faults), faults, deadline)

  defp run(world, [{kind, function} | others], faults, deadline) do
    # Without a fault for a while.
    Process.sleep(300 + :rand.uniform(1_700))

    if now() > deadline do
      world
    else
      world |> cause(kind, function) |> run(others, faults, deadline)
    end
  end

  defp chosen(faults, nil), do: faults

  defp chosen(faults, kinds) do
    kinds = String.split(kinds, ",")
    Enum.filter(faults, fn {kind, _function} -> "#{kind}" in kinds end)
  end

  # Until the instances work again.
  defp cause(world, kind, function) do
    Staleness.fault(world.check, kind, fn ->
      world = function.(world)
      await_recovery(world)
      world
    end)
  end

  @doc "Waits until all instances are connected."
  def await_recovery(world) do
    for name <- world.names, do: Wait.until(fn -> PowRedisCache.ping(name) == :ok end)
    :ok
  end

  @doc "Sleeps for a random time, in milliseconds."
  def pause(range), do: range |> Enum.random() |> Process.sleep()

  defp now, do: System.monotonic_time(:millisecond)
end
