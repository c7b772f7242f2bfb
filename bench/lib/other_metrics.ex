defmodule PowRedisCache.Bench.OtherMetrics do
  @moduledoc """
  Metrics other than the scenarios: scheduler time, a mixed workload, what sign-ins take of Redis, the load
  of a Cluster's nodes, the near cache, cold start, memory and the build.
  """

  alias PowRedisCache.Bench.{
    Build,
    ClusterLoad,
    ColdStart,
    Footprint,
    Memory,
    MixedWorkload,
    NearCache,
    SchedulerTime
  }

  @doc """
  Runs those whose names contain `:only` of the settings. `:sign_ins` is the number of sign-ins of
  `Footprint`; the others use `:rounds` and `:ms`.
  """
  def run(settings) do
    for {name, metric} <- all(),
        String.contains?(to_string(name), settings.only),
        into: %{},
        do: {name, metric.(settings)}
  end

  defp all do
    [
      scheduler_time: &SchedulerTime.run/1,
      mixed_workload: &MixedWorkload.run/1,
      footprint: &Footprint.run/1,
      cluster_load: &ClusterLoad.run/1,
      near_cache: &NearCache.run/1,
      cold_start_ms: &ColdStart.run/1,
      memory: fn _settings -> Memory.run() end,
      build: fn _settings -> Build.run() end
    ]
  end
end
