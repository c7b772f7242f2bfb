defmodule PowRedisCache.SentinelTest do
  use ExUnit.Case, async: false

  @moduletag :integration

  import PowRedisCache.Case, only: [seal: 0, unique_name: 0]

  alias PowRedisCache.{Certificates, ConsistencyChecker, FakeSentinel, Ports, RedisServer}
  alias PowRedisCache.{Sentinels, Wait}

  @password "redis-pw"
  @sentinel_password "sentinel-pw"
  @timeout 5_000

  # Shared by the tests that kill no server.
  setup_all do
    sentinels = Sentinels.start!(password: @password, sentinel_password: @sentinel_password)
    on_exit(fn -> Sentinels.stop(sentinels) end)
    [sentinels: sentinels]
  end

  describe "the primary" do
    test "is discovered and gets all commands", %{sentinels: sentinels} do
      config = start(sentinels)
      records = for i <- 1..100, do: {["a", i], i}
      assert PowRedisCache.put(config, records) == :ok
      assert PowRedisCache.get(config, ["a", 7]) == 7
      assert PowRedisCache.all(config, ["a", :_]) == records
      assert PowRedisCache.delete(config, ["a", 7]) == :ok
      assert PowRedisCache.get(config, ["a", 7]) == :not_found

      info = PowRedisCache.info(config[:name])
      assert %{connected: true, topology: :sentinel} = info
      assert info.server == "127.0.0.1:#{Sentinels.primary(sentinels).port}"
    end

    test "is discovered through any sentinel that replies", %{sentinels: sentinels} do
      unused = "redis://127.0.0.1:#{Ports.free()}"
      [first | _] = Sentinels.urls(sentinels)
      # A port without a listener, and a server that never replies.
      {:ok, silent} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(silent)

      for urls <- [[unused, first], ["redis://127.0.0.1:#{port}", first]] do
        config = start(sentinels, sentinels: urls)
        assert PowRedisCache.put(config, {"key", 1}) == :ok
      end
    end

    test "uses the login and the database of the options, sentinels the login of :sentinel", %{
      sentinels: sentinels
    } do
      config = start(sentinels, [], database: 3)
      assert PowRedisCache.put(config, {["a", "three"], 1}) == :ok
      assert PowRedisCache.all(start(sentinels), ["a", "three"]) == []

      urls =
        for "redis://" <> at <- Sentinels.urls(sentinels),
            do: "redis://:#{@sentinel_password}@#{at}"

      config = start(sentinels, [sentinels: urls, password: nil], password: fn -> @password end)
      assert PowRedisCache.put(config, {"key", 1}) == :ok
    end

    test "is discovered over TLS and connected to without TLS", %{sentinels: sentinels} do
      urls = Sentinels.secure_urls(sentinels)
      trust = [sentinels: urls, cacertfile: Certificates.path(:ca)]
      config = start(sentinels, trust)
      assert PowRedisCache.put(config, {"key", 1}) == :ok
      plain = for "rediss://" <> at <- urls, do: "redis://#{at}"
      config = start(sentinels, [tls: true] ++ Keyword.put(trust, :sentinels, plain))
      assert PowRedisCache.get(config, "key") == 1
      config = start(sentinels, sentinels: urls, verify: :verify_none)
      assert PowRedisCache.get(config, "key") == 1

      assert %{reason: :tls, code: "unknown_ca"} = failure(sentinels, [sentinels: urls], [])
    end

    test "has a TLS server name and versions of its own", %{sentinels: sentinels} do
      urls = Sentinels.secure_urls(sentinels)
      trust = [sentinels: urls, cacertfile: Certificates.path(:ca)]
      config = start(sentinels, [server_name: "localhost", tls_versions: [:"tlsv1.3"]] ++ trust)
      assert PowRedisCache.put(config, {"key", 1}) == :ok

      assert %{reason: :tls, code: "wrong_host"} =
               failure(sentinels, [server_name: "redis.example"] ++ trust, [])
    end

    test "that is not discovered returns the reason", %{sentinels: sentinels} do
      assert %{reason: :no_primary} = failure(sentinels, [group: "other"], [])
      assert %{reason: :unauthenticated} = failure(sentinels, [password: "wrong"], [])
      assert %{reason: :unauthenticated} = failure(sentinels, [], password: "wrong")
      unused = "redis://127.0.0.1:#{Ports.free()}"
      assert %{reason: :disconnected} = failure(sentinels, [sentinels: [unused]], [])
    end

    test "shows no password in its state, info and errors", %{sentinels: sentinels} do
      config = start(sentinels)
      PowRedisCache.put(config, {"key", 1})
      owner = Process.whereis(config[:name])
      seen = [:sys.get_state(owner), :sys.get_status(owner), PowRedisCache.info(config[:name])]
      error = failure(sentinels, [group: "other"], [])
      shown = inspect([seen, error, Exception.message(error)], limit: :infinity)
      refute shown =~ @password
      refute shown =~ @sentinel_password
    end
  end

  # As after a partition: the old primary answers its clients, but no sentinel reaches it.
  test "a primary that the sentinels have replaced is left within 10 s, though it still answers" do
    [old, new] =
      for _ <- 1..2 do
        server = RedisServer.start!()
        on_exit(fn -> RedisServer.stop(server) end)
        server
      end

    sentinel = FakeSentinel.start!(old)
    name = unique_name()
    options = [name: name, sentinel: FakeSentinel.options(sentinel), pool_size: 2]
    start_supervised!({PowRedisCache, options})
    config = [name: name, namespace: "sentinel", ttl: :timer.hours(1)]
    assert PowRedisCache.put(config, {"key", 0}) == :ok
    assert PowRedisCache.info(name).server == "127.0.0.1:#{old.port}"

    FakeSentinel.name(sentinel, new)
    # Any call that failed would raise.
    put = fn ->
      :ok = PowRedisCache.put(config, {"key", 1})
      PowRedisCache.info(name).server == "127.0.0.1:#{new.port}"
    end

    Wait.until(put, System.monotonic_time(:millisecond) + 10_000)
    assert PowRedisCache.put(config, {"key", 2}) == :ok
    assert PowRedisCache.get(config, "key") == 2

    # Nothing more is written to the old one.
    {:ok, "OK"} = RedisServer.command(old, ["FLUSHALL"])
    for value <- 1..100, do: :ok = PowRedisCache.put(config, {"key", value})
    assert RedisServer.command(old, ["DBSIZE"]) == {:ok, 0}
  end

  test "invalid options raise at start" do
    for sentinel <- [
          [],
          [group: "mymaster"],
          [sentinels: ["redis://localhost:26379"]],
          [sentinels: [], group: "mymaster"],
          [sentinels: ["localhost"], group: "mymaster"],
          [sentinels: "redis://localhost", group: "mymaster"],
          [sentinels: ["redis://localhost"], group: :mymaster],
          [sentinels: ["redis://localhost"], group: "mymaster", other: 1],
          true
        ] do
      assert_raise ArgumentError, ~r/:sentinel|:group/, fn ->
        PowRedisCache.start_link(sentinel: sentinel)
      end
    end
  end

  describe "under load" do
    setup do
      sentinels =
        Sentinels.start!(
          password: @password,
          sentinel_password: @sentinel_password,
          down_after: 500
        )

      on_exit(fn -> Sentinels.stop(sentinels) end)
      config = start(sentinels, [], timeout: @timeout)
      Wait.until(fn -> PowRedisCache.ping(config[:name]) == :ok end)
      [sentinels: sentinels, config: config, checker: start_checker(config)]
    end

    @tag :long
    test "calls go on after the primary is killed, and no write goes to it after its restart",
         %{sentinels: sentinels, config: config, checker: checker} do
      old = Sentinels.primary(sentinels)
      RedisServer.kill(old)
      {took, new} = :timer.tc(fn -> Sentinels.await_new_primary(sentinels, old) end)
      ConsistencyChecker.await(checker, 1_000)

      # Acknowledged writes that were not replicated yet are lost with the primary, so lost and stale are
      # not checked.
      report =
        checker
        |> ConsistencyChecker.stop()
        |> ConsistencyChecker.print("sentinel, primary killed")

      assert ConsistencyChecker.only_delayed?(report, took, 3_000)
      assert {report.late, report.leftover} == {0, 0}
      assert PowRedisCache.info(config[:name]).server == "127.0.0.1:#{new.port}"

      Sentinels.await_settled(sentinels, old)
      checker = start_checker(Keyword.put(config, :namespace, "second"))
      old = RedisServer.start_again!(old)
      on_exit(fn -> RedisServer.stop(old) end)
      Wait.until(fn -> Sentinels.replicating?(old) end)
      ConsistencyChecker.await(checker, 1_000)
      report = ConsistencyChecker.stop(checker)

      report =
        checker
        |> ConsistencyChecker.verify(report)
        |> ConsistencyChecker.print("sentinel, old primary back")

      assert report.errors == %{}
      assert {report.lost, report.stale, report.mismatched} == {0, 0, 0}
      assert {report.late, report.leftover} == {0, 0}
    end

    @tag :long
    test "no write goes to a primary that hung and resumes before its demotion",
         %{sentinels: sentinels, config: config, checker: checker} do
      old = Sentinels.primary(sentinels)
      RedisServer.pause(old)
      {took, new} = :timer.tc(fn -> Sentinels.await_new_primary(sentinels, old) end)
      Wait.until(fn -> PowRedisCache.info(config[:name]).server =~ "#{new.port}" end)
      ConsistencyChecker.await(checker, 1_000)

      report =
        checker
        |> ConsistencyChecker.stop()
        |> ConsistencyChecker.print("sentinel, primary hangs")

      # The worker reconnects after half of the timeout.
      assert ConsistencyChecker.only_delayed?(report, took, 2_300)
      assert {report.late, report.leftover} == {0, 0}

      Sentinels.await_settled(sentinels, old)
      checker = start_checker(Keyword.put(config, :namespace, "second"))
      RedisServer.resume(old)
      Wait.until(fn -> Sentinels.replicating?(old) end)
      ConsistencyChecker.await(checker, 1_000)
      report = ConsistencyChecker.stop(checker)

      report =
        checker
        |> ConsistencyChecker.verify(report)
        |> ConsistencyChecker.print("sentinel, old primary resumes")

      assert report.errors == %{}
      assert {report.lost, report.stale, report.mismatched} == {0, 0, 0}
    end

    @tag :long
    test "a manual failover fails no call", %{sentinels: sentinels, checker: checker} do
      report = fail_over(sentinels, checker, "sentinel, manual failover")
      assert report.errors == %{}
      assert {report.late, report.leftover} == {0, 0}
    end
  end

  # The new primary has too few replicas until the old one is demoted, which may take longer than the
  # default timeout.
  @tag :long
  test "a manual failover with min-replicas-to-write fails no call" do
    sentinels = Sentinels.start!(password: @password, sentinel_password: @sentinel_password)
    on_exit(fn -> Sentinels.stop(sentinels) end)
    setting = ["CONFIG", "SET", "min-replicas-to-write", "2"]
    for node <- sentinels.nodes, do: "OK" = RedisServer.command!(node, setting)

    timeout = 60_000
    checker = sentinels |> start([], timeout: timeout) |> start_checker(timeout)
    report = fail_over(sentinels, checker, "sentinel, manual failover, min-replicas-to-write")
    assert report.errors == %{}
    assert {report.late, report.leftover} == {0, 0}
    new = Sentinels.primary(sentinels)
    assert RedisServer.info(new, "errorstats", "errorstat_NOREPLICAS") =~ "count="
  end

  # The old primary accepts writes until it is demoted, and discards them then, so lost and stale are not
  # checked.
  defp fail_over(sentinels, checker, title) do
    old = Sentinels.primary(sentinels)
    command = ["SENTINEL", "FAILOVER", sentinels.group]
    {:ok, "OK"} = Sentinels.command(sentinels, hd(sentinels.sentinels), command)
    new = Sentinels.await_new_primary(sentinels, old)
    Wait.until(fn -> PowRedisCache.info(checker.config[:name]).server =~ "#{new.port}" end)
    ConsistencyChecker.await(checker, 1_000)
    checker |> ConsistencyChecker.stop() |> ConsistencyChecker.print(title)
  end

  defp start_checker(config, timeout \\ @timeout) do
    config
    |> ConsistencyChecker.start(timeout: timeout, processes: 20)
    |> ConsistencyChecker.await(500)
  end

  defp start(sentinels, sentinel \\ [], options \\ []) do
    name = unique_name()

    sentinel =
      Keyword.merge(
        [
          sentinels: Sentinels.urls(sentinels),
          group: sentinels.group,
          password: @sentinel_password
        ],
        sentinel
      )

    common = [name: name, sentinel: sentinel, password: @password, index: true, seal: seal()]
    options = Keyword.merge(common, options)
    start_supervised!({PowRedisCache, options}, id: name)
    [name: name, namespace: "sentinel", ttl: :timer.hours(1)]
  end

  defp failure(sentinels, sentinel, options) do
    config = start(sentinels, sentinel, [timeout: 2_000] ++ options)
    error = catch_error(PowRedisCache.put(config, {"key", 1}))
    assert %PowRedisCache.Error{} = error
    error
  end
end
