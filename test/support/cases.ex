defmodule PowRedisCache.Cases do
  @moduledoc """
  How many cases a random test runs: a tenth of them by default, for a fast loop. The environment
  variable `POW_REDIS_CACHE_CASES` gives another percentage; `bin/test` runs 100.
  """

  @doc "The number of cases to run of `all`, at least one."
  @spec count(pos_integer()) :: pos_integer()
  def count(all), do: max(ceil(all * percentage() / 100), 1)

  defp percentage, do: "POW_REDIS_CACHE_CASES" |> System.get_env("10") |> String.to_integer()
end
