defmodule PowRedisCache.Bench.Extras do
  @moduledoc false
  def run(_), do: %{}
end
