defmodule PowRedisCache.PlainValuesTest do
  # What an instance with plain: :refuse reports about values that are not sealed, and the telemetry of
  # values that do not open.
  use PowRedisCache.Case, async: false

  import ExUnit.CaptureLog

  alias PowRedisCache.SealKeys

  @moduletag server: [], instance: [seal: nil]
  @events [[:pow_redis_cache, :value, :plain], [:pow_redis_cache, :value, :unopened]]

  setup do
    :ok = :telemetry.attach_many(__MODULE__, @events, &__MODULE__.forward/4, self())
    on_exit(fn -> :telemetry.detach(__MODULE__) end)
    [keys: SealKeys.generate("a")]
  end

  def forward([:pow_redis_cache | event], measurements, metadata, pid) do
    send(pid, {:telemetry, event, measurements, metadata})
  end

  # Starts an instance that refuses plain values. Returns its configuration, what it counts, and its log.
  defp start_refusing(context) do
    {{config, counted}, log} =
      with_log(fn ->
        config = start_instance(context, seal: [keys: context.keys, plain: :refuse])
        name = config[:name]
        assert_receive {:telemetry, [:value, :plain], counted, %{name: ^name}}, 60_000
        # The line is logged when the owner handles the next message.
        :sys.get_state(name)
        {config, counted}
      end)

    {config, counted, log}
  end

  test "an instance warns at its start if there are some", context do
    PowRedisCache.put(context.config, for(i <- 1..30, do: {["a", i], i}))
    sealing = start_instance(context, seal: context.keys)
    PowRedisCache.put(sealing, for(i <- 1..20, do: {["b", i], i}))
    {_config, counted, log} = start_refusing(context)
    assert counted == %{count: 30, keys: 50}

    assert log =~
             "30 of the first 50 values in Redis are not sealed, and plain: :refuse ignores them. Set " <>
               "plain: :accept, run mix pow_redis_cache.reseal, and then set plain: :refuse"
  end

  test "it reads a sample of many", context do
    records = for i <- 1..15_000, do: {["a", i], i}
    for chunk <- Enum.chunk_every(records, 5_000), do: PowRedisCache.put(context.config, chunk)
    {_config, %{count: count, keys: keys}, _log} = start_refusing(context)
    assert keys in 10_000..12_000
    assert count == keys
  end

  test "it does not warn if there are none", context do
    sealing = start_instance(context, seal: context.keys)
    PowRedisCache.put(sealing, {"key", 1})
    {config, counted, log} = start_refusing(context)
    assert counted == %{count: 0, keys: 1}
    refute log =~ "are not sealed"
    assert PowRedisCache.get(config, "key") == 1
  end

  test "each value that does not open is an event with the reason", context do
    PowRedisCache.put(context.config, for(i <- 1..3, do: {["a", i], i}))
    {config, _counted, _log} = start_refusing(context)
    name = config[:name]
    assert PowRedisCache.get(config, ["a", 1]) == :not_found
    metadata = %{name: name, reason: :plain_refused}
    assert_receive {:telemetry, [:value, :unopened], %{count: 1}, ^metadata}, 60_000
    assert PowRedisCache.all(config, ["a", :_]) == []
    assert_receive {:telemetry, [:value, :unopened], %{count: 3}, ^metadata}, 60_000
  end
end
