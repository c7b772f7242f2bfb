defmodule PowRedisCache.TelemetryMetricsTest do
  use PowRedisCache.Case, async: false

  alias PowRedisCache.{Error, RedisServer, Telemetry, TelemetryMetrics}

  @statuses [:connected, :queue, :reconnects, :retries]

  setup do
    metrics = Telemetry.metrics()
    events = metrics |> Enum.map(& &1.event_name) |> Enum.uniq()
    :ok = :telemetry.attach_many(__MODULE__, events, &__MODULE__.forward/4, self())
    on_exit(fn -> :telemetry.detach(__MODULE__) end)
    [metrics: metrics]
  end

  def forward(event, measurements, metadata, pid) do
    send(pid, {:telemetry, event, measurements, metadata})
  end

  @tag :integration
  @tag server: [], instance: [name: nil]
  test "every metric has its measurement and tags in the events that calls emit", context do
    config = start_instance(context, index: false, timeout: 2_000)
    name = config[:name]
    PowRedisCache.put(config, [{"key", 1}, {["a", 1], 1}])
    catch_error(PowRedisCache.put(config, {"key", fn -> 1 end}))
    PowRedisCache.all(config, [:_, 1])

    # Neither a term nor sealed, and sealed with an unknown key.
    for bytes <- ["invalid", <<0xAE, 1, 0::528>>] do
      write(context, bytes)
      assert PowRedisCache.get(config, "key") == :not_found
    end

    fail_asynchronous_write(context, config)
    assert Telemetry.measure(name) == :ok
    RedisServer.stop(context.server)
    assert_raise Error, fn -> PowRedisCache.get(config, "key") end

    seen =
      for metric <- context.metrics do
        {value, tags} = await(metric, name)
        assert is_number(value)
        assert Enum.sort(Map.keys(tags)) == Enum.sort(metric.tags)
        # Each value of a tag is a series of its own: the instance, and an atom out of a few.
        assert {shown, tags_of_few} = Map.pop!(tags, :name)
        assert shown == inspect(name)
        assert tags_of_few |> Map.values() |> Enum.all?(&is_atom/1)
        {metric.name, tags}
      end

    assert {_name, %{operation: :put, reason: :invalid_argument}} =
             List.keyfind(seen, [:pow_redis_cache, :call, :exception, :count], 0)
  end

  test "metrics are unique, described and documented", %{metrics: metrics} do
    names = Enum.map(metrics, &Enum.join(&1.name, "."))
    assert Enum.uniq(names) == names
    assert Enum.all?(metrics, &is_binary(&1.description))
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(Telemetry)
    {_, _, _, %{"en" => doc}, _} = List.keyfind(docs, {:function, :metrics, 0}, 0)

    for {metric, name} <- Enum.zip(metrics, names) do
      assert doc =~ ~r/^\| `#{Regex.escape(name)}`.* \| #{tags(metric)} \|$/m
    end

    assert length(Regex.scan(~r/^\| `/m, doc)) == length(metrics)
  end

  test "the duration of calls is in milliseconds", %{metrics: metrics, config: config} do
    summary = Enum.find(metrics, &(List.last(&1.name) == :duration))
    assert summary.unit in [:millisecond, {:native, :millisecond}]
    PowRedisCache.put(config, {"key", 1})
    name = config[:name]
    assert_receive {:telemetry, [_, :call, :stop], measurements, %{name: ^name}}, 30_000
    native = System.convert_time_unit(1, :millisecond, :native)

    if is_function(summary.measurement),
      do: assert_in_delta(summary.measurement.(measurements), measurements.duration / native, 0.1)
  end

  test "a running instance can be measured", %{config: config} do
    name = config[:name]
    PowRedisCache.put(config, {"key", 1})
    assert Telemetry.measure(name) == :ok
    assert_receive {:telemetry, [_, :instance, :status], measurements, %{name: ^name}}, 30_000
    assert %{connected: 1, queue: 0, calls: 1, batches: batches} = measurements
    assert batches > 0
    assert @statuses -- Map.keys(measurements) == []
  end

  test "an instance that is not running is not measured, and nothing fails" do
    assert Telemetry.measure(:nonexistent) == :ok
    assert Telemetry.measure() == :ok
    refute_received {:telemetry, [_, :instance, :status], _, _}
  end

  test "without Telemetry.Metrics, an error says what to add" do
    message =
      "Nonexistent is not available. Add {:telemetry_metrics, \"~> 1.0\"} to the deps in mix.exs"

    assert_raise RuntimeError, message, fn -> TelemetryMetrics.all(Nonexistent) end
  end

  # The value and the tags of the first event of a metric.
  defp await(metric, name) do
    event = metric.event_name
    assert_receive {:telemetry, ^event, measurements, %{name: ^name} = metadata}, 30_000
    send(self(), {:telemetry, event, measurements, metadata})
    {value(metric.measurement, measurements), Map.take(metric.tag_values.(metadata), metric.tags)}
  end

  defp value(measurement, measurements) when is_function(measurement, 1),
    do: measurement.(measurements)

  defp value(measurement, measurements), do: measurements[measurement]

  defp tags(metric) do
    Enum.map_join(metric.tags, ", ", &"`:#{&1}`")
  end

  defp write(context, bytes) do
    path = PowGuideStore.path(context.pow_store, [context.namespace, "key"])
    RedisClient.command!(context.client, ["SET", path, bytes])
  end

  defp fail_asynchronous_write(context, config) do
    path = PowGuideStore.path(context.pow_store, [context.namespace, "list"])
    RedisClient.command!(context.client, ["CONFIG", "SET", "maxmemory", "1"])
    PowRedisCache.put(Keyword.put(config, :writes, :async), {"list", path})
  end
end
