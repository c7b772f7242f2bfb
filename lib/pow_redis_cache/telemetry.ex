defmodule PowRedisCache.Telemetry do
  @moduledoc """
  Events for `:telemetry`, if the app includes it.

  `:name` in the metadata is the name of the instance. No event contains a key, value or password.

    * `[:pow_redis_cache, :call, :start]` - a call starts.
      * Measurements: `:system_time`, in native units.
      * Metadata: `:name`, `:operation` (`:put`, `:put_new`, `:delete`, `:get`, `:all`, `:ping`,
        `:reindex`).
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
      * Metadata: `:name`.
    * `[:pow_redis_cache, :connection, :disconnected]` - the connection is lost and the first
      reconnect failed, or the first connect failed.
      * Metadata: `:name`, `:reason`, a reason of `PowRedisCache.Error`.
    * `[:pow_redis_cache, :value, :invalid]` - invalid values were read from Redis and ignored.
      * Measurements: `:count`.
      * Metadata: `:name`.
    * `[:pow_redis_cache, :index, :miss]` - `all/2` scans all keys, since no pattern of `:index` covers
      the match. Emitted once for each kind of match.
      * Metadata: `:name`, `:pattern`, the match with `:_` instead of all terms but atoms.
    * `[:pow_redis_cache, :write, :failed]` - an asynchronous write failed.
      * Measurements: `:count`.
      * Metadata: `:name`, `:operation`, `:reason`, a reason of `PowRedisCache.Error`.
  """

  # Called only if the app includes it.
  @compile {:no_warn_undefined, :telemetry}

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
