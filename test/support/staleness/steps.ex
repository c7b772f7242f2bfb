defmodule PowRedisCache.Staleness.Steps do
  @moduledoc """
  Intervals in the order in which they begin, to find their ends in logarithmic time. An end may be
  `:never`, which is later than all times.
  """

  @type t :: tuple()
  @type time :: integer() | :never

  @doc "Sorts intervals: their begin and their end."
  @spec new([{integer(), time()}]) :: t()
  def new(intervals) do
    sorted = Enum.sort(intervals)
    # Atoms are greater than numbers.
    latest = sorted |> Enum.map(&elem(&1, 1)) |> Enum.scan(&max/2)
    first = sorted |> Enum.map(&elem(&1, 1)) |> Enum.reverse() |> Enum.scan(&min/2)

    [sorted, Enum.reverse(first), latest]
    |> Enum.zip_with(fn [{from, _to}, first, latest] -> {from, first, latest} end)
    |> List.to_tuple()
  end

  @doc "The first end of the intervals that begin after a time, or `:never`."
  @spec first_end(t(), integer()) :: time()
  def first_end(steps, time) do
    case after_time(steps, time) do
      index when index < tuple_size(steps) -> steps |> elem(index) |> elem(1)
      _none -> :never
    end
  end

  @doc "The last end of the intervals that begin until a time, or `nil`."
  @spec last_end(t(), integer()) :: time() | nil
  def last_end(steps, time) do
    case after_time(steps, time) do
      0 -> nil
      index -> steps |> elem(index - 1) |> elem(2)
    end
  end

  # The index of the first interval that begins after the time.
  defp after_time(steps, time), do: after_time(steps, time, 0, tuple_size(steps))

  defp after_time(_steps, _time, index, index), do: index

  defp after_time(steps, time, low, high) do
    middle = div(low + high, 2)

    if steps |> elem(middle) |> elem(0) > time,
      do: after_time(steps, time, low, middle),
      else: after_time(steps, time, middle + 1, high)
  end
end
