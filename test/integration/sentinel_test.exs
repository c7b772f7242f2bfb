defmodule PowRedisCache.SentinelTest do
  use ExUnit.Case, async: false

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Certificates, ConsistencyChecker, Ports, RedisServer, Sentinels, Wait}

  @password "redis-pw"
  @sentinel_password "sentinel-pw"
  @timeout 5_000

  # Of tests that kill nobody; the others have their own.
  setup_all do
    sentinels = Sentinels.start!(password: @password, sentinel_password: @sentinel_password)
    on_exit(fn -> Sentinels.stop(sentinels) end)
    [sentinels: sentinels]
  end

  describe "the master" do
    test "is found, and only the master is written to", %{sentinels: sentinels} do
      config = start(sentinels)
      records = for i <- 1..100, do: {["a", i], i}
      assert PowRedisCache.put(config, records) == :ok
      assert PowRedisCache.get(config, ["a", 7]) == 7
      assert PowRedisCache.all(config, ["a", :_]) == records
      assert PowRedisCache.delete(config, ["a", 7]) == :ok
      assert PowRedisCache.get(config, ["a", 7]) == :not_found

      info = PowRedisCache.info(config[:name])
      assert %{connected: true, topology: :sentinel} = info
      assert info.server == "127.0.0.1:#{Sentinels.master(sentinels).port}"
    end

    test "is found through any sentinel that answers", %{sentinels: sentinels} do
      nobody = "redis://127.0.0.1:#{Ports.free()}"
      [first | _] = Sentinels.urls(sentinels)
      # One that does not know the group, and one that says nothing.
      {:ok, silent} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(silent)

      for urls <- [[nobody, first], ["redis://127.0.0.1:#{port}", first]] do
        config = start(sentinels, sentinels: urls)
        assert PowRedisCache.put(config, {"key", 1}) == :ok
      end
    end

    test "takes login and database from the options, sentinels theirs", %{sentinels: sentinels} do
      config = start(sentinels, [], database: 3)
      assert PowRedisCache.put(config, {["a", "three"], 1}) == :ok
      assert PowRedisCache.all(start(sentinels), ["a", "three"]) == []

      urls =
        for "redis://" <> at <- Sentinels.urls(sentinels),
            do: "redis://:#{@sentinel_password}@#{at}"

      config = start(sentinels, [sentinels: urls, password: nil], password: fn -> @password end)
      assert PowRedisCache.put(config, {"key", 1}) == :ok
    end

    test "is asked for over TLS, and spoken to without", %{sentinels: sentinels} do
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

    test "is not found", %{sentinels: sentinels} do
      assert %{reason: :no_primary} = failure(sentinels, [group: "other"], [])
      assert %{reason: :unauthenticated} = failure(sentinels, [password: "wrong"], [])
      assert %{reason: :unauthenticated} = failure(sentinels, [], password: "wrong")
      nobody = "redis://127.0.0.1:#{Ports.free()}"
      assert %{reason: :disconnected} = failure(sentinels, [sentinels: [nobody]], [])
    end

    test "shows no password", %{sentinels: sentinels} do
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

  test "options that do not fit are refused at start" do
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
      [sentinels: sentinels, config: config, load: load(config)]
    end

    @tag :long
    test "calls go on when the master is killed, and nothing is written to it when it comes back",
         %{sentinels: sentinels, config: config, load: load} do
      old = Sentinels.master(sentinels)
      RedisServer.kill(old)
      {took, new} = :timer.tc(fn -> Sentinels.await_other_master(sentinels, old) end)
      ConsistencyChecker.await(load, 1_000)
      # What was acknowledged and not yet replicated is lost with the master: not counted here.
      report =
        load |> ConsistencyChecker.stop() |> ConsistencyChecker.print("sentinel, master killed")

      assert ConsistencyChecker.only_waited?(report, took, 3_000)
      assert {report.late, report.left} == {0, 0}
      assert PowRedisCache.info(config[:name]).server == "127.0.0.1:#{new.port}"

      Sentinels.be_patient(sentinels)
      load = load(Keyword.put(config, :namespace, "second"))
      old = RedisServer.start_again!(old)
      on_exit(fn -> RedisServer.stop(old) end)
      Wait.until(fn -> Sentinels.follows?(old) end)
      ConsistencyChecker.await(load, 1_000)
      report = ConsistencyChecker.stop(load)

      report =
        load
        |> ConsistencyChecker.verify(report)
        |> ConsistencyChecker.print("sentinel, old master back")

      assert report.errors == %{}
      assert {report.missing, report.back, report.listed_wrong} == {0, 0, 0}
      assert {report.late, report.left} == {0, 0}
    end

    @tag :long
    test "nothing is written to a master that stood still, and goes on as one for a moment",
         %{sentinels: sentinels, config: config, load: load} do
      old = Sentinels.master(sentinels)
      RedisServer.pause(old)
      {took, new} = :timer.tc(fn -> Sentinels.await_other_master(sentinels, old) end)
      Wait.until(fn -> PowRedisCache.info(config[:name]).server =~ "#{new.port}" end)
      ConsistencyChecker.await(load, 1_000)

      report =
        load |> ConsistencyChecker.stop() |> ConsistencyChecker.print("sentinel, master frozen")

      # The old connection is given up after half of the timeout.
      assert ConsistencyChecker.only_waited?(report, took, 2_300)
      assert {report.late, report.left} == {0, 0}

      Sentinels.be_patient(sentinels)
      load = load(Keyword.put(config, :namespace, "second"))
      RedisServer.resume(old)
      Wait.until(fn -> Sentinels.follows?(old) end)
      ConsistencyChecker.await(load, 1_000)
      report = ConsistencyChecker.stop(load)

      report =
        load
        |> ConsistencyChecker.verify(report)
        |> ConsistencyChecker.print("sentinel, old master goes on")

      assert report.errors == %{}
      assert {report.missing, report.back, report.listed_wrong} == {0, 0, 0}
    end

    @tag :long
    test "a switch that is asked for fails no call", %{sentinels: sentinels, load: load} do
      old = Sentinels.master(sentinels)
      command = ["SENTINEL", "FAILOVER", sentinels.group]
      {:ok, "OK"} = Sentinels.ask(sentinels, hd(sentinels.sentinels), command)
      new = Sentinels.await_other_master(sentinels, old)
      # The old master takes writes until it is told, and forgets them then: not counted here.
      Wait.until(fn -> PowRedisCache.info(load.config[:name]).server =~ "#{new.port}" end)
      ConsistencyChecker.await(load, 1_000)
      report = load |> ConsistencyChecker.stop() |> ConsistencyChecker.print("sentinel, switch")
      assert report.errors == %{}
      assert {report.late, report.left} == {0, 0}
    end
  end

  defp load(config) do
    config
    |> ConsistencyChecker.start(timeout: @timeout, processes: 20)
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

    options = Keyword.merge([name: name, sentinel: sentinel, password: @password], options)
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
