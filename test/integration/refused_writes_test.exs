defmodule PowRedisCache.RefusedWritesTest do
  # The primary that sentinels name refuses writes. They are asked at once, and not only every few seconds.
  use ExUnit.Case, async: true

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Error, FakeSentinel, FakeServer, RedisServer, Wait}

  # A call that waits for this time outlives its test.
  @timeout 120_000

  @misconf "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk."

  describe "after MISCONF" do
    test "a primary that the sentinels have replaced is left at once, and no call fails" do
      new = start_server!()
      {old, sentinel, config} = start_refusing!(@misconf)
      assert PowRedisCache.get(config, "key") == :not_found
      assert server(config) == "127.0.0.1:#{old.port}"

      # The failover is over before anyone has asked again.
      FakeSentinel.name(sentinel, new)
      puts = for i <- 1..20, do: Task.async(fn -> PowRedisCache.put(config, {["key", i], i}) end)
      assert Enum.uniq(Task.await_many(puts, @timeout)) == [:ok]
      assert server(config) == "127.0.0.1:#{new.port}"
      for i <- 1..20, do: assert(PowRedisCache.get(config, ["key", i]) == i)
    end

    test "calls fail at once if the sentinels name the same primary, and it is kept" do
      {old, sentinel, config} = start_refusing!(@misconf, pool_size: 1)
      assert PowRedisCache.get(config, "key") == :not_found
      asked = FakeSentinel.asked(sentinel)
      connections = FakeServer.connections(old)

      assert_misconfigured(config)
      assert FakeSentinel.asked(sentinel) > asked
      assert PowRedisCache.get(config, "key") == :not_found
      assert FakeServer.connections(old) == connections
    end

    test "calls fail at once if no sentinel can be reached, and the primary is kept" do
      {old, sentinel, config} = start_refusing!(@misconf, pool_size: 1)
      assert PowRedisCache.get(config, "key") == :not_found
      connections = FakeServer.connections(old)

      FakeSentinel.stop(sentinel)
      assert_misconfigured(config)
      assert PowRedisCache.get(config, "key") == :not_found
      assert FakeServer.connections(old) == connections
    end
  end

  describe "after NOREPLICAS" do
    test "puts wait, and are sent to the primary that the sentinels name next" do
      [old, new] = [start_server!(["--min-replicas-to-write", "1"]), start_server!()]
      sentinel = FakeSentinel.start!(old)
      config = start(sentinel)
      put = start_waiting_put!(config, old)

      FakeSentinel.name(sentinel, new)
      assert Task.await(put, @timeout) == :ok
      assert server(config) == "127.0.0.1:#{new.port}"
      assert PowRedisCache.get(config, "key") == 1
      assert RedisServer.command(old, ["DBSIZE"]) == {:ok, 0}
    end

    test "puts wait for the replicas of the same primary" do
      primary = start_server!(["--min-replicas-to-write", "1"])
      config = primary |> FakeSentinel.start!() |> start()
      put = start_waiting_put!(config, primary)

      start_server!(["--replicaof", "127.0.0.1 #{primary.port}"])
      assert Task.await(put, @timeout) == :ok
      assert PowRedisCache.get(config, "key") == 1
    end

    test "puts fail with the reply if the deadline comes first" do
      primary = start_server!(["--min-replicas-to-write", "1"])
      # Enough for a slow machine to get the first refusal.
      config = primary |> FakeSentinel.start!() |> start(timeout: 5_000)
      error = catch_error(PowRedisCache.put(config, {"key", 1}))
      assert %Error{reason: :server, code: "NOREPLICAS"} = error
    end
  end

  # A primary that refuses writes with this message, a sentinel that names it, and an instance.
  defp start_refusing!(message, options \\ []) do
    primary =
      FakeServer.start!(
        serve: fn
          [name | _] when name in ["SET", "ZADD", "DEL"] -> [{:send, "-#{message}\r\n"}]
          _command -> [:default]
        end
      )

    sentinel = FakeSentinel.start!(primary)
    {primary, sentinel, start(sentinel, options)}
  end

  defp start(sentinel, options \\ []) do
    name = unique_name()
    instance = [name: name, sentinel: FakeSentinel.options(sentinel), timeout: @timeout]
    start_supervised!({PowRedisCache, Keyword.merge(instance, options)}, id: name)
    [name: name, namespace: "sentinel", ttl: :timer.hours(1)]
  end

  defp start_server!(arguments \\ []) do
    server = RedisServer.start!(["--repl-diskless-sync-delay", "0" | arguments])
    on_exit(fn -> RedisServer.stop(server) end)
    server
  end

  # A put that this server has refused, twice so that it was sent again, and that still waits.
  defp start_waiting_put!(config, server) do
    put = Task.async(fn -> PowRedisCache.put(config, {"key", 1}) end)
    Wait.until(fn -> refusals(server) >= 2 end)
    assert Process.alive?(put.pid)
    put
  end

  defp refusals(server) do
    case RedisServer.info(server, "errorstats", "errorstat_NOREPLICAS") do
      "count=" <> count -> String.to_integer(count)
      nil -> 0
    end
  end

  defp server(config), do: PowRedisCache.info(config[:name]).server

  defp assert_misconfigured(config) do
    error = catch_error(PowRedisCache.put(config, {"key", 1}))
    assert %Error{reason: :server, code: "MISCONF"} = error
    assert Exception.message(error) =~ "Redis cannot write to its disk, and refuses writes"
  end
end
