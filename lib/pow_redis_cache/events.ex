defmodule PowRedisCache.Events do
  @moduledoc false
  # Turns the events of an instance into log lines and telemetry. Frequent events are logged at most
  # once per second.

  require Logger

  alias PowRedisCache.{Error, Telemetry}

  @quiet 1_000

  # `quiet` maps a kind of event to the end of its quiet period and the number of suppressed lines.
  # `refusals` has the kinds of refusals of the near cache that were logged.
  defstruct [:name, :topology, quiet: %{}, refusals: []]

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

  def handle(events, {:write_failed, operation, reason}) do
    error = Error.from_native(operation, reason, events.topology)
    metadata = %{name: events.name, operation: operation, reason: error.reason}
    Telemetry.execute([:write, :failed], %{count: 1}, metadata)
    log(events, :write_failed, :error, fn -> "asynchronous #{Exception.message(error)}" end)
  end

  def handle(events, {:missed, error}) do
    log(events, :missed, :error, fn -> "counted as a miss: #{Exception.message(error)}" end)
  end

  def handle(events, {:near_cache_ended, reason}) do
    Telemetry.execute([:near_cache, :ended], %{count: 1}, %{name: events.name, reason: reason})
    log(events, :near_cache_ended, :info, fn -> "emptied the near cache: #{ended(reason)}" end)
  end

  def handle(events, {:near_cache_refused, reason}) do
    error = Error.from_native(:connect, reason, events.topology)
    kind = {error.reason, error.code}

    if kind in events.refusals do
      events
    else
      Logger.warning(
        "#{inspect(events.name)}: the near cache is off: Redis does not tell what changes, so all " <>
          "reads go to Redis. #{refusal_advice(error.reason)}#{said(error.reply)}"
      )

      %{events | refusals: [kind | events.refusals]}
    end
  end

  def handle(events, :stopped), do: events

  # All records of a namespace: Pow's tokens are listed so.
  defp index_advice([:_], _can_be_indexed) do
    "If these are persistent sessions, use PowRedisCache.PersistentSessionStore, and run mix " <>
      "pow_redis_cache.index_tokens"
  end

  defp index_advice(_pattern, true),
    do: "If it is called often, add the pattern to :index, and run mix pow_redis_cache.reindex"

  defp index_advice(_pattern, false), do: "An index needs literal parts in front of all :_"

  defp ended(:connection_lost), do: "the connection was lost"
  defp ended(:flushed), do: "the database was flushed"
  defp ended(:demoted), do: "the server is another one, or not a primary any more"
  defp ended(:redirected), do: "a node of the cluster redirected a read"
  defp ended(:slots_moved), do: "slots of the cluster moved"
  defp ended(:refused), do: "Redis refused to track reads"

  defp refusal_advice(:not_permitted) do
    "Permit the commands HELLO and CLIENT TRACKING (`+hello +client|tracking`), or remove :near_cache"
  end

  defp refusal_advice(_reason) do
    "It needs Redis 6.0 or later, and no proxy without RESP3. Otherwise, remove :near_cache"
  end

  defp said(nil), do: ""
  defp said(reply), do: ". Redis said: \"#{reply}\""

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
