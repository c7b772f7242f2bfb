defmodule PowRedisCache.ChaosTest do
  # A steady load while things go wrong: no acknowledged write is lost, no deleted record comes back,
  # no call ends late.
  use ExUnit.Case, async: false

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{ConsistencyChecker, FakeServer, RedisServer, SchedulerStalls, Wait}

  @timeout 5_000
  # Calls that are made before the trouble, and again after it.
  @some 1_000

  setup do
    node = RedisServer.start!(["--enable-debug-command", "yes" | RedisServer.durable()])
    on_exit(fn -> RedisServer.stop(node) end)
    name = unique_name()
    start_supervised!({PowRedisCache, name: name, url: RedisServer.url(node), timeout: @timeout})
    config = [name: name, namespace: "chaos", ttl: :timer.hours(1)]
    Wait.until(fn -> PowRedisCache.ping(name) == :ok end)

    [
      node: node,
      name: name,
      config: config,
      load:
        config |> ConsistencyChecker.start(timeout: @timeout) |> ConsistencyChecker.await(@some)
    ]
  end

  test "a server that is killed and started again", %{node: node, load: load, name: name} do
    node =
      Enum.reduce(1..3, node, fn _, node ->
        RedisServer.kill(node)
        node = RedisServer.start_again!(node)
        on_exit(fn -> RedisServer.stop(node) end)
        ConsistencyChecker.await(load, @some)
        node
      end)

    report = finish(load, "kill -9")
    # An outage shorter than the timeout costs time, not errors.
    assert report.errors == %{}
    assert PowRedisCache.info(name).reconnects >= 3
    assert RedisServer.info(node, "server", "tcp_port") == "#{node.port}"
  end

  test "a server that takes three seconds to load", %{node: node, load: load} do
    RedisServer.kill(node)

    loading =
      FakeServer.start!([{:refuse, "LOADING Redis is loading the dataset in memory"}],
        port: node.port,
        at: :login
      )

    Process.sleep(3_000)
    FakeServer.stop(loading)
    node = RedisServer.start_again!(node)
    on_exit(fn -> RedisServer.stop(node) end)
    ConsistencyChecker.await(load, @some)
    report = finish(load, "loading for 3 s")
    assert report.errors == %{}
  end

  test "connections that are killed all the time", %{node: node, load: load, name: name} do
    for _ <- 1..30 do
      Process.sleep(100)
      RedisServer.command!(node, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
    end

    report = finish(load, "CLIENT KILL every 100 ms")
    assert report.errors == %{}
    assert PowRedisCache.info(name).reconnects >= 30
  end

  test "a server that pauses", %{node: node, load: load} do
    for command <- [
          ["CLIENT", "PAUSE", "700", "ALL"],
          ["CLIENT", "PAUSE", "700", "WRITE"],
          ["DEBUG", "SLEEP", "0.7"]
        ] do
      RedisServer.command!(node, command)
      Process.sleep(700)
      ConsistencyChecker.await(load, @some)
    end

    report = finish(load, "CLIENT PAUSE, DEBUG SLEEP")
    assert report.errors == %{}
    assert report.slowest >= 600
  end

  test "a server that stands still", %{node: node, load: load} do
    for _ <- 1..3 do
      RedisServer.pause(node)
      Process.sleep(700)
      RedisServer.resume(node)
      ConsistencyChecker.await(load, @some)
    end

    report = finish(load, "SIGSTOP, SIGCONT")
    assert report.errors == %{}
    assert report.slowest >= 600
  end

  @tag :long
  test "a server that stands still for longer than a call may take",
       %{node: node, load: load} do
    RedisServer.pause(node)
    Process.sleep(@timeout + 2_000)
    RedisServer.resume(node)
    ConsistencyChecker.await(load, @some)
    report = finish(load, "SIGSTOP for 7 s")
    assert report.errors != %{}
    assert Map.keys(report.errors) -- [:timeout, :disconnected] == []
  end

  @tag :long
  test "a server that is gone for longer than a call may take",
       %{node: node, load: load, name: name} do
    RedisServer.kill(node)
    Process.sleep(@timeout + 1_000)
    # Refused at once, not after five seconds.
    {refused, took} = SchedulerStalls.time(fn -> PowRedisCache.ping(name) end)
    assert {:error, %PowRedisCache.Error{reason: :disconnected}} = refused
    assert took < 1_000
    node = RedisServer.start_again!(node)
    on_exit(fn -> RedisServer.stop(node) end)
    ConsistencyChecker.await(load, @some)
    report = finish(load, "gone for 6 s")
    assert report.errors != %{}
    assert Map.keys(report.errors) -- [:timeout, :disconnected] == []
  end

  test "a server that runs out of memory", %{node: node, load: load} do
    RedisServer.command!(node, ["CONFIG", "SET", "maxmemory", "1"])
    Process.sleep(1_000)
    RedisServer.command!(node, ["CONFIG", "SET", "maxmemory", "0"])
    ConsistencyChecker.await(load, @some)
    report = finish(load, "maxmemory")
    assert %{out_of_memory: refused} = report.errors
    assert refused > 0 and map_size(report.errors) == 1
  end

  defp finish(load, title) do
    report = load |> ConsistencyChecker.stop()

    report =
      load |> ConsistencyChecker.verify(report) |> ConsistencyChecker.print("chaos, #{title}")

    assert report.calls >= 2 * @some
    assert report.missing == 0
    assert report.back == 0
    assert report.listed_wrong == 0
    assert report.late == 0
    assert report.left == 0
    report
  end
end
