defmodule PowRedisCache.Bench.RedisBenchmark do
  @moduledoc "`redis-benchmark`, Redis's load generator in C: the upper limit."

  alias PowRedisCache.PowGuideStore

  @name "redis-benchmark"
  @pow_store %PowGuideStore{version: 2}
  @ttl "1800000"

  def name, do: @name

  @doc "The rate, p50 and p99 of `calls` calls by `clients` connections."
  def run(port, command, clients, calls) do
    {output, 0} =
      System.cmd(
        @name,
        ["-p", "#{port}", "-c", "#{clients}", "-n", "#{calls}", "--csv" | arguments(command)],
        stderr_to_stdout: true
      )

    [_title, figures] = output |> String.split("\n", trim: true) |> Enum.take(-2)

    [_command, rate, _average, _minimum, p50, _p95, p99, _maximum] =
      figures |> String.replace("\"", "") |> String.split(",")

    {String.to_float(rate), String.to_float(p50) * 1_000, String.to_float(p99) * 1_000}
  end

  defp arguments({:get, key}), do: ["GET", path(key)]
  defp arguments({:set, key}), do: ["SET", path(key), String.duplicate("x", 100), "PX", @ttl]

  defp path(key), do: PowGuideStore.path(@pow_store, ["credentials", key])
end
