defmodule PowRedisCache.TelemetryTest do
  use PowRedisCache.Case, async: false

  alias PowRedisCache.{Ports, RedisServer}

  @events [
    [:pow_redis_cache, :call, :start],
    [:pow_redis_cache, :call, :stop],
    [:pow_redis_cache, :call, :exception],
    [:pow_redis_cache, :connection, :connected],
    [:pow_redis_cache, :connection, :disconnected],
    [:pow_redis_cache, :value, :invalid],
    [:pow_redis_cache, :write, :failed],
    [:pow_redis_cache, :near_cache, :ended]
  ]

  @secret "s3cret"

  setup do
    :ok = :telemetry.attach_many(__MODULE__, @events, &__MODULE__.forward/4, self())
    on_exit(fn -> :telemetry.detach(__MODULE__) end)
  end

  def forward([:pow_redis_cache | event], measurements, metadata, pid) do
    send(pid, {:telemetry, event, measurements, metadata})
  end

  describe "a call" do
    test "emits start and stop", %{config: config} do
      name = config[:name]

      for {operation, call} <- [
            put: fn -> PowRedisCache.put(config, {"key", 1}) end,
            get: fn -> PowRedisCache.get(config, "key") end,
            get: fn -> PowRedisCache.get(config, "missing") end,
            all: fn -> PowRedisCache.all(config, :_) end,
            delete: fn -> PowRedisCache.delete(config, "key") end,
            ping: fn -> PowRedisCache.ping(name) end
          ] do
        before = System.monotonic_time()
        call.()
        took = System.monotonic_time() - before
        assert [{[:call, :start], %{system_time: time}, start}, stop] = calls(name)
        assert abs(System.system_time() - time) < System.convert_time_unit(5, :second, :native)
        assert start == %{name: name, operation: operation}
        assert {[:call, :stop], %{duration: duration}, ^start} = stop
        assert duration in 1..took
      end
    end

    test "that fails emits an exception like :telemetry.span/3", context do
      %{config: config, client: client, pow_store: pow_store} = context
      name = config[:name]
      path = PowGuideStore.path(pow_store, [config[:namespace], "key"])
      RedisClient.command!(client, ["LPUSH", path, "x"])
      error = catch_error(PowRedisCache.get(config, "key"))
      assert %PowRedisCache.Error{reason: :wrong_type} = error

      assert [{[:call, :start], _, _}, {[:call, :exception], measurements, metadata}] =
               calls(name)

      assert %{duration: duration} = measurements
      assert duration > 0
      assert %{name: ^name, operation: :get, kind: :error, reason: ^error} = metadata
      assert {PowRedisCache.Telemetry, :call, 3, _location} = hd(metadata.stacktrace)
      # Arities, since arguments may hold keys.
      for {_module, _function, arity, _location} <- metadata.stacktrace,
          do: assert(is_integer(arity))

      assert Enum.any?(metadata.stacktrace, &match?({__MODULE__, _, _, _}, &1))

      assert Exception.format(:error, metadata.reason, metadata.stacktrace) =~
               "telemetry_test.exs"
    end

    test "that fails on its arguments emits an exception", %{config: config} do
      name = config[:name]
      error = catch_error(PowRedisCache.put(config, {"key", fn -> 1 end}))
      assert %ArgumentError{} = error
      assert {[:call, :exception], %{duration: _}, metadata} = name |> calls() |> List.last()
      assert %{name: ^name, operation: :put, kind: :error, reason: ^error} = metadata
      assert [_ | _] = metadata.stacktrace
    end

    test "that is asynchronous emits start and stop", %{config: config} do
      PowRedisCache.put(Keyword.put(config, :writes, :async), {"key", 1})
      assert [{[:call, :start], _, _}, {[:call, :stop], _, _}] = calls(config[:name])
    end

    @tag server: [], instance: [on_error: :miss, timeout: 300]
    test "that counts as a miss emits an exception", %{config: config, server: server} do
      PowRedisCache.ping(config[:name])
      RedisServer.stop(server)
      calls(config[:name])
      assert PowRedisCache.get(config, "key") == :not_found
      assert PowRedisCache.all(config, :_) == []

      assert [
               {[:call, :start], _, _},
               {[:call, :exception], _, %{operation: :get, reason: %PowRedisCache.Error{}}},
               {[:call, :start], _, _},
               {[:call, :exception], _, %{operation: :all, reason: %PowRedisCache.Error{}}}
             ] = calls(config[:name])
    end
  end

  describe "the connection" do
    @tag :integration
    @tag instance: [name: nil]
    test "emits connected, disconnected and connected, each once" do
      node = RedisServer.start!()
      on_exit(fn -> RedisServer.stop(node) end)
      name = unique_name()
      start_supervised!({PowRedisCache, name: name, url: RedisServer.url(node), timeout: 3_000})
      assert PowRedisCache.ping(name) == :ok
      assert_receive {:telemetry, [:connection, :connected], _, %{name: ^name}}, 30_000
      RedisServer.kill(node)
      assert {:error, _} = PowRedisCache.ping(name)

      assert_receive {:telemetry, [:connection, :disconnected], _,
                      %{name: ^name, reason: reason}},
                     30_000

      assert reason == :disconnected
      node = RedisServer.start_again!(node)
      on_exit(fn -> RedisServer.stop(node) end)
      assert_receive {:telemetry, [:connection, :connected], _, %{name: ^name}}, 30_000
      assert PowRedisCache.ping(name) == :ok
      refute_received {:telemetry, [:connection, _], _, %{name: ^name}}
    end

    @tag instance: [name: nil]
    test "emits disconnected if the first connect fails" do
      name = unique_name()
      url = "redis://127.0.0.1:#{Ports.free()}"
      start_supervised!({PowRedisCache, name: name, url: url})
      assert_receive {:telemetry, [:connection, :disconnected], _, metadata}, 30_000
      assert metadata == %{name: name, reason: :disconnected}
    end

    @tag instance: [name: nil]
    test "emits disconnected if the login fails", %{server: server} do
      name = unique_name()
      url = "redis://ann:#{@secret}@127.0.0.1:#{server.port}"
      start_supervised!({PowRedisCache, name: name, url: url})
      assert_receive {:telemetry, [:connection, :disconnected], _, metadata}, 30_000
      assert metadata == %{name: name, reason: :unauthenticated}
    end
  end

  @tag server: []
  test "a near cache emits its end with the reason", %{client: client} = context do
    options = [namespaces: [context.namespace], max_staleness: 60_000]
    near = start_instance(context, near_cache: options)
    name = near[:name]
    PowRedisCache.put(near, {"key", 1})

    # Redis tells only connections that have read something.
    Wait.until(fn ->
      PowRedisCache.get(near, "key")
      PowRedisCache.info(name).near_cache.hits > 0
    end)

    calls(name)
    PowRedisCache.get(near, "key")
    assert calls(name) == []
    RedisClient.command!(client, ["FLUSHALL"])

    assert_receive {:telemetry, [:near_cache, :ended], measurements, %{name: ^name} = metadata},
                   30_000

    assert {measurements, metadata} == {%{count: 1}, %{name: name, reason: :flushed}}
  end

  test "invalid values are counted", %{config: config, client: client, pow_store: pow_store} do
    name = config[:name]
    PowRedisCache.put(config, [{["a", 1], 1}, {["a", 2], 2}, {["a", 3], 3}])

    for number <- 1..2 do
      path = PowGuideStore.path(pow_store, [config[:namespace], "a", number])
      RedisClient.command!(client, ["SET", path, @secret])
    end

    assert PowRedisCache.get(config, ["a", 1]) == :not_found

    assert_receive {:telemetry, [:value, :invalid], %{count: 1}, %{name: ^name} = metadata},
                   30_000

    refute inspect(metadata) =~ @secret
    assert [_] = PowRedisCache.all(config, ["a", :_])
    assert_receive {:telemetry, [:value, :invalid], %{count: 2}, %{name: ^name}}, 30_000
  end

  @tag server: ["--maxmemory", "1mb"]
  test "a failed asynchronous write emits failed", %{config: config} do
    name = config[:name]
    async = Keyword.put(config, :writes, :async)
    for i <- 1..20, do: PowRedisCache.put(async, {["a", i], String.duplicate("x", 100_000)})
    assert_receive {:telemetry, [:write, :failed], %{count: 1}, metadata}, 30_000
    assert metadata == %{name: name, operation: :put, reason: :out_of_memory}
  end

  test "no event contains a key or value", %{config: config, client: client, pow_store: pow_store} do
    PowRedisCache.put(config, {[@secret, @secret], @secret})
    PowRedisCache.get(config, [@secret, @secret])
    PowRedisCache.all(config, [@secret, :_])
    catch_error(PowRedisCache.put(config, {[@secret, fn -> 1 end], @secret}))
    catch_error(PowRedisCache.all(config, [%{:"$1" => @secret}]))
    path = PowGuideStore.path(pow_store, [config[:namespace], @secret])
    RedisClient.command!(client, ["LPUSH", path, @secret])
    catch_error(PowRedisCache.get(config, @secret))
    events = calls(config[:name])
    assert length(events) == 12
    assert Enum.count(events, &match?({[:call, :exception], _, %{stacktrace: [_ | _]}}, &1)) == 3
    refute inspect(events, limit: :infinity, printable_limit: :infinity) =~ @secret
  end

  test "a handler runs in the calling process", %{config: config} do
    id = {__MODULE__, :other}
    own = self()
    handler = fn _event, _measurements, _metadata, _config -> send(own, {:ran_in, self()}) end
    :telemetry.attach_many(id, [[:pow_redis_cache, :call, :stop]], handler, nil)
    PowRedisCache.put(config, {"key", 1})
    :telemetry.detach(id)
    assert_received {:ran_in, ^own}
  end

  # A hit emits nothing.
  @tag instance: [near_cache: false]
  test "calls work without :telemetry", %{config: config} do
    name = config[:name]
    instance = PowRedisCache.Instance.fetch!(name, :get)
    assert instance.telemetry?
    # Waits until the owner has handled the event of the connection.
    :ok = PowRedisCache.ping(name)
    assert [_start, _stop] = calls(name)
    :sys.get_state(name)
    :code.delete(:telemetry)
    :code.purge(:telemetry)

    try do
      refute PowRedisCache.Telemetry.present?()
      # As if :telemetry had been missing when the instance started.
      :persistent_term.put({PowRedisCache, name}, %{instance | telemetry?: false})
      assert PowRedisCache.put(config, {"key", 1}) == :ok
      assert PowRedisCache.get(config, "key") == 1
      catch_error(PowRedisCache.put(config, {"key", fn -> 1 end}))
      refute :code.is_loaded(:telemetry)
    after
      {:module, :telemetry} = Code.ensure_loaded(:telemetry)
    end

    assert calls(name) == []
    :persistent_term.put({PowRedisCache, name}, instance)
    assert PowRedisCache.get(config, "key") == 1
    assert [{[:call, :start], _, _}, {[:call, :stop], _, _}] = calls(name)
  end

  # The call events of an instance so far.
  defp calls(name) do
    receive do
      {:telemetry, [:call, _] = event, measurements, %{name: ^name} = metadata} ->
        [{event, measurements, metadata} | calls(name)]
    after
      0 -> []
    end
  end
end
