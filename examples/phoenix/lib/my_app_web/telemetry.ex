defmodule MyAppWeb.Telemetry do
  @moduledoc "The metrics that the dashboard shows."
  use Supervisor

  import Telemetry.Metrics

  def start_link(options), do: Supervisor.start_link(__MODULE__, options, name: __MODULE__)

  @impl true
  def init(_options) do
    children = [
      {:telemetry_poller, measurements: periodic_measurements(), period: :timer.seconds(5)}
    ]

    Supervisor.init(children, strategy: :one_for_one)
  end

  def metrics do
    PowRedisCache.Telemetry.metrics() ++
      [
        summary("phoenix.endpoint.stop.duration", unit: {:native, :millisecond})
      ]
  end

  defp periodic_measurements do
    [
      {PowRedisCache.Telemetry, :measure, []}
    ]
  end
end
