defmodule PowRedisCache.TelemetryMetrics do
  @moduledoc false
  # The metrics of `PowRedisCache.Telemetry.metrics/0`.

  alias PowRedisCache.Error

  @doc "Returns them, made with the functions of `library`, which an app may lack."
  def all(library \\ Telemetry.Metrics) do
    if not Code.ensure_loaded?(library) do
      raise "#{inspect(library)} is not available. Add {:telemetry_metrics, \"~> 1.0\"} to the deps " <>
              "in mix.exs"
    end

    calls(library) ++ events(library) ++ status(library)
  end

  defp calls(library) do
    tags = [:name, :operation]

    [
      library.summary("pow_redis_cache.call.stop.duration",
        tags: tags,
        tag_values: &tag_values/1,
        unit: {:native, :millisecond},
        description: "How long calls take"
      ),
      library.counter("pow_redis_cache.call.stop.count",
        measurement: :duration,
        tags: tags,
        tag_values: &tag_values/1,
        description: "Calls that returned"
      ),
      library.counter("pow_redis_cache.call.exception.count",
        measurement: :duration,
        tags: tags ++ [:reason],
        tag_values: &tag_values/1,
        description: "Calls that failed"
      )
    ]
  end

  # As they are shown. Reporters keep a series for each, and so an exception itself is none.
  defp tag_values(metadata) do
    metadata |> Map.update!(:name, &inspect/1) |> Map.replace_lazy(:reason, &reason/1)
  end

  defp reason(%Error{reason: reason}), do: reason
  defp reason(%ArgumentError{}), do: :invalid_argument
  defp reason(reason), do: reason

  defp events(library) do
    [
      library.counter("pow_redis_cache.connection.connected.count",
        tags: [:name],
        tag_values: &tag_values/1,
        description: "How often the instance has connected to Redis"
      ),
      library.counter("pow_redis_cache.connection.disconnected.count",
        tags: [:name, :reason],
        tag_values: &tag_values/1,
        description: "How often Redis was lost, and the first reconnect failed"
      ),
      library.sum("pow_redis_cache.value.invalid.count",
        tags: [:name],
        tag_values: &tag_values/1,
        description: "Invalid values read from Redis"
      ),
      library.sum("pow_redis_cache.value.unopened.count",
        tags: [:name, :reason],
        tag_values: &tag_values/1,
        description: "Values read from Redis that did not open"
      ),
      library.sum("pow_redis_cache.write.failed.count",
        tags: [:name, :operation, :reason],
        tag_values: &tag_values/1,
        description: "Asynchronous writes that failed"
      ),
      library.counter("pow_redis_cache.index.miss.count",
        tags: [:name],
        tag_values: &tag_values/1,
        description: "Patterns that no index covers"
      )
    ]
  end

  defp status(library) do
    for {measurement, description} <- [
          connected: "Whether Redis is reachable (1) or not (0)",
          queue: "Queued calls",
          reconnects: "Reconnects since the start",
          retries: "Retried calls since the start"
        ] do
      library.last_value("pow_redis_cache.instance.status.#{measurement}",
        tags: [:name],
        tag_values: &tag_values/1,
        description: description
      )
    end
  end
end
