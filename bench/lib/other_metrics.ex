defmodule PowRedisCache.Bench.OtherMetrics do
  @moduledoc "Metrics other than the scenarios: scheduler time, a mixed workload, cold start, memory and the build."

  alias PowRedisCache.Bench.{MixedWorkload, Build, ColdStart, Memory, SchedulerTime}

  def run(settings) do
    %{
      scheduler_time: SchedulerTime.run(settings),
      mixed_workload: MixedWorkload.run(settings),
      cold_start_ms: ColdStart.run(settings),
      memory: Memory.run(),
      build: Build.run()
    }
  end
end
