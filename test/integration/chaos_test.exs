defmodule PowRedisCache.ChaosTest do
  # A steady load during failures: no acknowledged write is lost, no deleted record comes back, and no
  # call ends late.
  use ExUnit.Case, async: false

  @moduletag :integration

  import PowRedisCache.Case, only: [seal: 0, unique_name: 0]

  alias PowRedisCache.{ConsistencyChecker, FakeServer, RedisServer, SchedulerStalls, Wait}

  @timeout 5_000
  # Calls before the failure, and again after it.
  @calls 1_000

  setup do
    node = RedisServer.start!(["--enable-debug-command", "yes" | RedisServer.durable()])
    on_exit(fn -> RedisServer.stop(node) end)
    name = unique_name()

    start_supervised!(
      {PowRedisCache,
       name: name, url: RedisServer.app_url(node), timeout: @timeout, index: true, seal: seal()}
    )

    config = [name: name, namespace: "chaos", ttl: :timer.hours(1)]
    Wait.until(fn -> PowRedisCache.ping(name) == :ok end)

    [
      node: node,
      name: name,
      config: config,
      checker:
        config |> ConsistencyChecker.start(timeout: @timeout) |> ConsistencyChecker.await(@calls)
    ]
  end

  test "survives a server that is killed and restarted", %{
    node: node,
    checker: checker,
    name: name
  } do
    node =
      Enum.reduce(1..3, node, fn _, node ->
        RedisServer.kill(node)
        node = RedisServer.start_again!(node)
        on_exit(fn -> RedisServer.stop(node) end)
        ConsistencyChecker.await(checker, @calls)
        node
      end)

    report = finish(checker, "kill -9")
    # An outage shorter than the timeout only delays calls.
    assert report.errors == %{}
    assert PowRedisCache.info(name).reconnects >= 3
    assert RedisServer.info(node, "server", "tcp_port") == "#{node.port}"
  end

  test "survives a server that loads for three seconds", %{node: node, checker: checker} do
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
    ConsistencyChecker.await(checker, @calls)
    report = finish(checker, "loading for 3 s")
    assert report.errors == %{}
  end

  test "survives connections that are killed every 100 ms", %{
    node: node,
    checker: checker,
    name: name
  } do
    for _ <- 1..30 do
      Process.sleep(100)
      RedisServer.command!(node, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
    end

    report = finish(checker, "CLIENT KILL every 100 ms")
    # On a busy machine, a call may be under way in two of the killed connections.
    assert Map.drop(report.errors, [:connection_lost]) == %{}
    assert PowRedisCache.info(name).reconnects >= 30
  end

  test "survives a server that pauses", %{node: node, checker: checker} do
    for command <- [
          ["CLIENT", "PAUSE", "700", "ALL"],
          ["CLIENT", "PAUSE", "700", "WRITE"],
          ["DEBUG", "SLEEP", "0.7"]
        ] do
      RedisServer.command!(node, command)
      Process.sleep(700)
      ConsistencyChecker.await(checker, @calls)
    end

    report = finish(checker, "CLIENT PAUSE, DEBUG SLEEP")
    assert report.errors == %{}
    assert report.slowest >= 600
  end

  test "survives a server that hangs", %{node: node, checker: checker} do
    for _ <- 1..3 do
      RedisServer.pause(node)
      Process.sleep(700)
      RedisServer.resume(node)
      ConsistencyChecker.await(checker, @calls)
    end

    report = finish(checker, "SIGSTOP, SIGCONT")
    assert report.errors == %{}
    assert report.slowest >= 600
  end

  @tag :long
  test "fails calls while a server hangs for longer than the timeout, and recovers",
       %{node: node, checker: checker} do
    RedisServer.pause(node)
    Process.sleep(@timeout + 2_000)
    RedisServer.resume(node)
    ConsistencyChecker.await(checker, @calls)
    report = finish(checker, "SIGSTOP for 7 s")
    assert report.errors != %{}
    assert Map.keys(report.errors) -- [:timeout, :disconnected] == []
  end

  @tag :long
  test "fails calls while a server is down for longer than the timeout, and recovers",
       %{node: node, checker: checker, name: name} do
    RedisServer.kill(node)
    Process.sleep(@timeout + 1_000)
    # A call fails at once instead of after five seconds.
    {result, took} = SchedulerStalls.time(fn -> PowRedisCache.ping(name) end)
    assert {:error, %PowRedisCache.Error{reason: :disconnected}} = result
    assert took < 1_000
    node = RedisServer.start_again!(node)
    on_exit(fn -> RedisServer.stop(node) end)
    ConsistencyChecker.await(checker, @calls)
    report = finish(checker, "down for 6 s")
    assert report.errors != %{}
    assert Map.keys(report.errors) -- [:timeout, :disconnected] == []
  end

  test "fails writes while the server is out of memory, and recovers", %{
    node: node,
    checker: checker
  } do
    RedisServer.command!(node, ["CONFIG", "SET", "maxmemory", "1"])
    Process.sleep(1_000)
    RedisServer.command!(node, ["CONFIG", "SET", "maxmemory", "0"])
    ConsistencyChecker.await(checker, @calls)
    report = finish(checker, "maxmemory")
    assert %{out_of_memory: failed} = report.errors
    assert failed > 0 and map_size(report.errors) == 1
  end

  defp finish(checker, title) do
    report = checker |> ConsistencyChecker.stop()

    report =
      checker |> ConsistencyChecker.verify(report) |> ConsistencyChecker.print("chaos, #{title}")

    assert report.calls >= 2 * @calls
    assert report.lost == 0
    assert report.stale == 0
    assert report.mismatched == 0
    assert report.late == 0
    assert report.leftover == 0
    report
  end
end
