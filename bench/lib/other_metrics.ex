defmodule PowRedisCache.Bench.OtherMetrics do
  @moduledoc "What is measured besides rows: each with a map of figures of its own."

  alias PowRedisCache.Bench.{MixedWorkload, Build, ColdStart, Memory, SchedulerTime}

  def run(settings) do
    %{
      scheduler_time: SchedulerTime.run(settings),
      get_beside_all: MixedWorkload.run(settings),
      cold_start_ms: ColdStart.run(settings),
      memory: Memory.run(),
      build: Build.run()
    }
  end
end
