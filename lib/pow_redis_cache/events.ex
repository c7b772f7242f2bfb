defmodule PowRedisCache.Events do
  @moduledoc false
  # Turns the events of an instance into log lines and telemetry. Frequent events are logged at most
  # once per second.

  require Logger

  alias PowRedisCache.{Error, Telemetry}

  @quiet 1_000

  # `quiet` maps a kind of event to the end of its quiet period and the number of suppressed lines.
  defstruct [:name, :topology, quiet: %{}]

  def new(name, topology), do: %__MODULE__{name: name, topology: topology}

  def handle(events, {:connected, version}) do
    Telemetry.execute([:connection, :connected], %{count: 1}, %{name: events.name})
    Logger.info("#{inspect(events.name)}: connected to #{version || "Redis"}")
    events
  end

  def handle(events, :user_ignored) do
    Logger.warning(
      "#{inspect(events.name)}: the user h does not exist. Its password is the default user's, who " <>
        "is logged in. Remove the user from :url or :username"
    )

    events
  end

  def handle(events, {:disconnected, reason}) do
    error = Error.from_native(:connect, reason, events.topology)

    Telemetry.execute([:connection, :disconnected], %{count: 1}, %{
      name: events.name,
      reason: error.reason
    })

    Logger.error(
      "#{inspect(events.name)}: #{Exception.message(error)}. Reconnecting in the background"
    )

    events
  end

  def handle(events, :local_clock) do
    Logger.warning(
      "#{inspect(events.name)}: Redis does not tell its time, so this host's clock is used. " <>
        "Permit the command TIME (`+time`), or keep the clocks of all hosts in step"
    )

    events
  end

  def handle(events, {:index_miss, pattern, can_be_indexed}) do
    Telemetry.execute([:index, :miss], %{count: 1}, %{name: events.name, pattern: pattern})

    advice = index_advice(pattern, can_be_indexed)

    Logger.warning(
      "#{inspect(events.name)}: all/2 scans all keys for #{inspect(pattern)}, which no pattern of " <>
        ":index covers. #{advice}"
    )

    events
  end

  def handle(events, {:invalid_values, number}) do
    Telemetry.execute([:value, :invalid], %{count: number}, %{name: events.name})

    log(events, :invalid_values, :warning, fn ->
      "ignored #{number} invalid values read from Redis"
    end)
  end

  def handle(events, {:unopened_values, reason, number}) do
    metadata = %{name: events.name, reason: reason}
    Telemetry.execute([:value, :unopened], %{count: number}, metadata)

    log(events, {:unopened_values, reason}, :warning, fn ->
      "ignored #{number} values read from Redis that #{why(reason)}"
    end)
  end

  def handle(events, {:plain_values, plain, keys}) do
    measurements = %{count: plain, keys: keys}
    Telemetry.execute([:value, :plain], measurements, %{name: events.name})

    if plain > 0 do
      Logger.warning(
        "#{inspect(events.name)}: #{plain} of the first #{keys} values in Redis are not sealed, and " <>
          "plain: :refuse ignores them. Set plain: :accept, run mix pow_redis_cache.reseal, and then " <>
          "set plain: :refuse"
      )
    end

    events
  end

  def handle(events, {:write_failed, operation, reason}) do
    error = Error.from_native(operation, reason, events.topology)
    metadata = %{name: events.name, operation: operation, reason: error.reason}
    Telemetry.execute([:write, :failed], %{count: 1}, metadata)
    log(events, :write_failed, :error, fn -> "asynchronous #{Exception.message(error)}" end)
  end

  def handle(events, {:missed, error}) do
    log(events, :missed, :error, fn -> "counted as a miss: #{Exception.message(error)}" end)
  end

  def handle(events, :stopped), do: events

  defp why(:unknown_key),
    do: "are sealed with an unknown key. Add it to the keys of :seal, unless it was removed"

  defp why(:tampered),
    do: "do not open: they were changed, moved, or sealed with another key of the same id"

  defp why(:expired), do: "have expired, but were restored. Delete them"

  defp why(:plain_refused),
    do: "are not sealed. If this package wrote them, run mix pow_redis_cache.reseal"

  # All records of a namespace: Pow's tokens are listed so.
  defp index_advice([:_], _can_be_indexed) do
    "If these are persistent sessions, use PowRedisCache.PersistentSessionStore, and run mix " <>
      "pow_redis_cache.index_tokens"
  end

  defp index_advice(_pattern, true),
    do: "If it is called often, add the pattern to :index, and run mix pow_redis_cache.reindex"

  defp index_advice(_pattern, false), do: "An index needs literal parts in front of all :_"

  defp log(events, kind, level, text) do
    now = System.monotonic_time(:millisecond)

    case Map.get(events.quiet, kind, {now, 0}) do
      {until, suppressed} when now < until ->
        %{events | quiet: Map.put(events.quiet, kind, {until, suppressed + 1})}

      {_until, suppressed} ->
        more = if suppressed > 0, do: " (#{suppressed} similar messages suppressed)", else: ""
        Logger.log(level, "#{inspect(events.name)}: #{text.()}#{more}")
        %{events | quiet: Map.put(events.quiet, kind, {now + @quiet, 0})}
    end
  end
end
