defmodule PowRedisCache.Telemetry do
  @moduledoc """
  Events for `:telemetry`, where the app has it.

  `:name` in the metadata is the instance's. Reasons are those of `PowRedisCache.Error`. No event holds
  a key, value or password.

    * `[:pow_redis_cache, :call, :start]` - a call begins. Measurement: `:system_time`, in native
      units. Metadata: `:name`, `:operation` (`:put`, `:delete`, `:get`, `:all`, `:ping`, `:reindex`).
    * `[:pow_redis_cache, :call, :stop]` - it has been answered. Measurement: `:duration`, in native
      units. Metadata: the same.
    * `[:pow_redis_cache, :call, :exception]` - it failed. Measurement: `:duration`. Metadata: the same
      and `:reason`, or `:argument` where a key or value can't be stored.
    * `[:pow_redis_cache, :connection, :connected]` - Redis can be reached. Metadata: `:name`.
    * `[:pow_redis_cache, :connection, :disconnected]` - it cannot, and connecting again has failed once.
      Metadata: `:name`, `:reason`.
    * `[:pow_redis_cache, :value, :invalid]` - values from Redis were not fit to become terms.
      Measurement: `:count`. Metadata: `:name`.
    * `[:pow_redis_cache, :write, :failed]` - an asynchronous write failed. Measurement: `:count`.
      Metadata: `:name`, `:operation`, `:reason`.
  """

  # Called only where it is present.
  @compile {:no_warn_undefined, :telemetry}

  @doc false
  # Tells of a call, which the function makes.
  def call(name, operation, function) do
    metadata = %{name: name, operation: operation}
    start = %{system_time: System.system_time()}
    :telemetry.execute([:pow_redis_cache, :call, :start], start, metadata)
    started = System.monotonic_time()
    result = function.()
    duration = System.monotonic_time() - started

    case result do
      {:error, error} ->
        # What is no failure of Redis is one of the arguments.
        reason = Map.get(error, :reason, :argument)
        metadata = Map.put(metadata, :reason, reason)
        :telemetry.execute([:pow_redis_cache, :call, :exception], %{duration: duration}, metadata)

      _answer ->
        :telemetry.execute([:pow_redis_cache, :call, :stop], %{duration: duration}, metadata)
    end

    result
  end

  @doc false
  def execute(event, measurements, metadata) do
    if present?(), do: :telemetry.execute([:pow_redis_cache | event], measurements, metadata)
    :ok
  end

  @doc false
  # An instance loads it when it starts.
  def present?, do: function_exported?(:telemetry, :execute, 3)
end
