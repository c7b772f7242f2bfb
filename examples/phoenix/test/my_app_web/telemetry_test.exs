defmodule MyAppWeb.TelemetryTest do
  use MyAppWeb.ConnCase, async: true

  import Phoenix.LiveViewTest

  test "the dashboard shows the metrics of the cache" do
    {:ok, _view, page} = live(build_conn(), "/dashboard/metrics?nav=pow_redis_cache")

    for metric <- PowRedisCache.Telemetry.metrics(),
        do: assert(page =~ Enum.join(metric.name, "."))
  end
end
