defmodule PowRedisCache.Telemetry do
  @moduledoc """
  Events for `:telemetry`, if the app includes it.

  `:name` in the metadata is the name of the instance. No event contains a key, value or password.

    * `[:pow_redis_cache, :call, :start]` - a call starts.
      * Measurements: `:system_time`, in native units.
      * Metadata: `:name`, `:operation` (`:put`, `:put_new`, `:delete`, `:get`, `:all`, `:ping`,
        `:reindex`, `:reseal`).
    * `[:pow_redis_cache, :call, :stop]` - a call returns.
      * Measurements: `:duration`, in native units.
      * Metadata: `:name`, `:operation`.
    * `[:pow_redis_cache, :call, :exception]` - a call fails. With `on_error: :miss`, a failed read
      emits this event too, although it returns.
      * Measurements: `:duration`, in native units.
      * Metadata: `:name`, `:operation`, `:kind`, which is `:error`, `:reason`, the exception
        (`PowRedisCache.Error`, or `ArgumentError` if a key or value cannot be stored), and
        `:stacktrace`, the stack trace of the caller.
    * `[:pow_redis_cache, :connection, :connected]` - the instance has connected to Redis.
      * Measurements: `:count`, which is 1.
      * Metadata: `:name`.
    * `[:pow_redis_cache, :connection, :disconnected]` - the connection is lost and the first
      reconnect failed, or the first connect failed.
      * Measurements: `:count`, which is 1.
      * Metadata: `:name`, `:reason`, a reason of `PowRedisCache.Error`.
    * `[:pow_redis_cache, :value, :invalid]` - invalid values were read from Redis and ignored.
      * Measurements: `:count`.
      * Metadata: `:name`.
    * `[:pow_redis_cache, :value, :unopened]` - values were read from Redis that do not open, and were
      ignored, see the option `:seal`.
      * Measurements: `:count`.
      * Metadata: `:name`, `:reason`: `:unknown_key`, `:tampered` (changed, moved, or sealed with another
        key of the same id), `:expired` (restored after its time) or `:plain_refused`.
    * `[:pow_redis_cache, :value, :plain]` - an instance with `plain: :refuse` has started, and has read
      some 10,000 values.
      * Measurements: `:count`, those that are not sealed, and `:keys`, all that were read.
      * Metadata: `:name`.
    * `[:pow_redis_cache, :index, :miss]` - `all/2` scans all keys, since no pattern of `:index` covers
      the match. Emitted once for each kind of match.
      * Measurements: `:count`, which is 1.
      * Metadata: `:name`, `:pattern`, the match with `:_` instead of all terms but atoms.
    * `[:pow_redis_cache, :write, :failed]` - an asynchronous write failed.
      * Measurements: `:count`.
      * Metadata: `:name`, `:operation`, `:reason`, a reason of `PowRedisCache.Error`.
    * `[:pow_redis_cache, :instance, :status]` - the state of an instance, emitted by `measure/1`.
      * Measurements: `:connected`, which is 1 or 0; `:queue`, `:calls`, `:batches`, `:reconnects` and
        `:retries`, as in `PowRedisCache.info/1`.
      * Metadata: `:name`.

  ## Metrics

  LiveDashboard draws these events. In the app's `telemetry.ex`, add `metrics/0` to the metrics, and
  `measure/1` to the measurements of `:telemetry_poller`:

      def metrics do
        PowRedisCache.Telemetry.metrics() ++
          [
            # ...
          ]
      end

      defp periodic_measurements do
        [{PowRedisCache.Telemetry, :measure, []}]
      end
  """

  alias PowRedisCache.{Error, TelemetryMetrics}

  # Called only if the app includes it.
  @compile {:no_warn_undefined, :telemetry}

  @counts [:queue, :calls, :batches, :reconnects, :retries]

  @doc """
  Returns definitions of `Telemetry.Metrics`, for reporters such as LiveDashboard.

  | metric | type | tags |
  |---|---|---|
  | `pow_redis_cache.call.stop.duration`, in milliseconds | summary | `:name`, `:operation` |
  | `pow_redis_cache.call.stop.count` | counter | `:name`, `:operation` |
  | `pow_redis_cache.call.exception.count` | counter | `:name`, `:operation`, `:reason` |
  | `pow_redis_cache.connection.connected.count` | counter | `:name` |
  | `pow_redis_cache.connection.disconnected.count` | counter | `:name`, `:reason` |
  | `pow_redis_cache.value.invalid.count` | sum | `:name` |
  | `pow_redis_cache.value.unopened.count` | sum | `:name`, `:reason` |
  | `pow_redis_cache.write.failed.count` | sum | `:name`, `:operation`, `:reason` |
  | `pow_redis_cache.index.miss.count` | counter | `:name` |
  | `pow_redis_cache.instance.status.connected` | last value | `:name` |
  | `pow_redis_cache.instance.status.queue` | last value | `:name` |
  | `pow_redis_cache.instance.status.reconnects` | last value | `:name` |
  | `pow_redis_cache.instance.status.retries` | last value | `:name` |

  The tag `:reason` is a reason of `PowRedisCache.Error`, or `:invalid_argument`.

  Raises `RuntimeError` if the app does not include `:telemetry_metrics`.
  """
  @spec metrics() :: [struct()]
  def metrics, do: TelemetryMetrics.all()

  @doc """
  Emits `[:pow_redis_cache, :instance, :status]`, if the instance is running. A measurement for
  `:telemetry_poller`.
  """
  @spec measure(atom()) :: :ok
  def measure(name \\ PowRedisCache) do
    info = PowRedisCache.info(name)
    connected = if info.connected, do: 1, else: 0
    measurements = info |> Map.take(@counts) |> Map.put(:connected, connected)
    execute([:instance, :status], measurements, %{name: name})
  rescue
    # The poller starts before the instance does, and drops a measurement that raises.
    Error -> :ok
  end

  @doc false
  # Runs a call between its events. A failed call returns `{:error, exception}`.
  def call(name, operation, function) do
    metadata = %{name: name, operation: operation}
    start = %{system_time: System.system_time()}
    :telemetry.execute([:pow_redis_cache, :call, :start], start, metadata)
    started = System.monotonic_time()
    result = function.()
    measurements = %{duration: System.monotonic_time() - started}

    case result do
      {:error, exception} ->
        failure = %{kind: :error, reason: exception, stacktrace: stacktrace()}
        metadata = Map.merge(metadata, failure)
        :telemetry.execute([:pow_redis_cache, :call, :exception], measurements, metadata)

      _result ->
        :telemetry.execute([:pow_redis_cache, :call, :stop], measurements, metadata)
    end

    result
  end

  # A stack trace from `Process.info/2` has arities instead of arguments, which may hold keys.
  defp stacktrace do
    {:current_stacktrace, [_process_info, _stacktrace | stacktrace]} =
      Process.info(self(), :current_stacktrace)

    stacktrace
  end

  @doc false
  def execute(event, measurements, metadata) do
    if present?(), do: :telemetry.execute([:pow_redis_cache | event], measurements, metadata)
    :ok
  end

  @doc false
  # An instance loads `:telemetry` when it starts.
  def present?, do: function_exported?(:telemetry, :execute, 3)
end
