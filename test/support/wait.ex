defmodule PowRedisCache.Wait do
  @moduledoc "Waits for a condition, with a deadline."

  @deadline 300_000
  @pause 5

  @doc "Waits until the function returns a truthy value, and returns that."
  def until(condition, deadline \\ System.monotonic_time(:millisecond) + @deadline) do
    cond do
      result = condition.() ->
        result

      System.monotonic_time(:millisecond) > deadline ->
        raise "the condition was not met within #{@deadline} ms"

      true ->
        Process.sleep(@pause)
        until(condition, deadline)
    end
  end
end
