defmodule PowRedisCache.LateDeliveryTest do
  # A network that delivers late what was sent on a connection that the client has given up.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  alias PowRedisCache.{Cases, ConsistencyChecker, HoldingProxy}

  @timeout 2_000

  describe "what a given up connection sent" do
    @describetag server: [], instance: [name: nil]

    for {title, held} <- [
          {"before Redis got it", :to_server},
          {"and Redis acknowledged unheard", :to_client},
          {"while it was dead in both directions", :both}
        ] do
      test "#{title} does not undo a later delete", context do
        {proxy, config} = start_behind_proxy(context)
        PowRedisCache.put(config, {"session", 1})
        HoldingProxy.hold(proxy, direction: unquote(held))
        assert PowRedisCache.put(config, {"session", 2}) == :ok
        assert PowRedisCache.delete(config, "session") == :ok
        deliver(proxy)
        assert PowRedisCache.get(config, "session") == :not_found
        assert PowRedisCache.all(config, [:_]) == []
      end
    end

    test "does not undo a later put", context do
      {proxy, config} = start_behind_proxy(context)
      PowRedisCache.put(config, {"session", 1})
      HoldingProxy.hold(proxy)
      assert PowRedisCache.put(config, {"session", 2}) == :ok
      assert PowRedisCache.put(config, {"session", 3}) == :ok
      deliver(proxy)
      assert PowRedisCache.get(config, "session") == 3
    end

    test "does not bring a deleted session back, also after two connections", context do
      {proxy, config} = start_behind_proxy(context, timeout: 3_000)
      PowRedisCache.put(config, {"session", 1})
      # The put takes long enough to be held on its second connection, too.
      HoldingProxy.delay(proxy, 30)
      put = Task.async(fn -> attempt(fn -> PowRedisCache.put(config, {"session", 2}) end) end)

      for lost <- 1..2 do
        HoldingProxy.hold(proxy)
        Wait.until(fn -> PowRedisCache.info(config[:name]).reconnects >= lost end)
      end

      Task.await(put, 60_000)
      assert PowRedisCache.delete(config, "session") == :ok
      deliver(proxy)
      assert PowRedisCache.get(config, "session") == :not_found
    end

    test "does not bring a deleted session back if the put failed", context do
      {proxy, config} = start_behind_proxy(context)
      PowRedisCache.put(config, {"session", 1})
      HoldingProxy.hold(proxy)
      HoldingProxy.new_connections(proxy, :refuse)
      assert {:error, _reason} = attempt(fn -> PowRedisCache.put(config, {"session", 2}) end)
      HoldingProxy.new_connections(proxy, :pass)
      Wait.until(fn -> attempt(fn -> PowRedisCache.delete(config, "session") end) == :ok end)

      deliver(proxy)
      assert PowRedisCache.get(config, "session") == :not_found
    end
  end

  describe "random schedules of cut, hold and heal" do
    @describetag server: [], instance: [name: nil]

    test "bring no deleted session back and lose no acknowledged write", context do
      report = run_schedules(context, Cases.count(200), RedisServer.url(context.server))
      print(report, "with permission to kill connections")
      assert report.calls > 0
      assert report.stale == 0
      assert report.lost == 0
      assert report.mismatched == 0
      assert report.leftover == 0
    end

    # Without this permission the guarantee is weaker. The guide on reliability reports the number.
    test "are counted for a user who may not kill connections", context do
      rules = ["on", ">pass", "~*", "&*", "+@all", "-client|kill"]
      RedisClient.command!(context.client, ["ACL", "SETUSER", "unfenced" | rules])
      url = "redis://unfenced:pass@127.0.0.1:#{context.server.port}"
      report = run_schedules(context, Cases.count(200), url)
      print(report, "without permission to kill connections")
      assert report.calls > 0
      assert report.leftover == 0
    end
  end

  # Schedules run at the same time. Each has its own instance and proxy.
  defp run_schedules(context, count, url) do
    1..count
    |> Task.async_stream(&run_schedule(context, url, &1), max_concurrency: 20, timeout: :infinity)
    |> Enum.map(fn {:ok, report} -> report end)
    |> Enum.reduce(fn report, sum ->
      Map.merge(sum, report, fn _key, left, right -> left + right end)
    end)
  end

  defp run_schedule(context, url, number) do
    :rand.seed(:exsss, {ExUnit.configuration()[:seed], number, 5})
    proxy = HoldingProxy.start!(context.server.port)
    name = unique_name()
    timeout = Enum.random([500, 1_200, 2_500])
    pool_size = Enum.random([1, 1, 2])
    url = url |> URI.parse() |> Map.put(:port, proxy.port) |> URI.to_string()

    {:ok, owner} =
      PowRedisCache.start_link(
        name: name,
        url: url,
        timeout: timeout,
        pool_size: pool_size,
        index: true,
        seal: seal()
      )

    config = [name: name, namespace: "#{context.namespace}_#{number}", ttl: :timer.hours(1)]
    Wait.until(fn -> PowRedisCache.info(name).connected end)
    checker = ConsistencyChecker.start(config, timeout: timeout, processes: 10, seed: number)
    for _ <- 1..8, do: disturb(proxy)
    HoldingProxy.heal(proxy)
    ConsistencyChecker.await(checker, 20)
    # Redis has run what was held when it has closed the connections that were given up.
    Wait.until(fn -> length(HoldingProxy.connections(proxy)) <= pool_size end)
    report = ConsistencyChecker.stop(checker)
    report = ConsistencyChecker.verify(checker, report)
    GenServer.stop(owner)

    %{
      schedules: 1,
      calls: report.calls,
      failed: report.errors |> Map.values() |> Enum.sum(),
      stale: report.stale,
      lost: report.lost,
      mismatched: report.mismatched,
      leftover: report.leftover
    }
  end

  defp disturb(proxy) do
    direction = Enum.random([:to_server, :to_client, :both])

    case :rand.uniform(10) do
      n when n <= 4 -> HoldingProxy.hold(proxy, direction: direction)
      5 -> HoldingProxy.cut(proxy, Enum.random([:client, :server, :both]))
      6 -> hold_and_cut(proxy, direction)
      7 -> HoldingProxy.new_connections(proxy, Enum.random([:hold, :refuse]))
      8 -> HoldingProxy.delay(proxy, :rand.uniform(30))
      _ -> HoldingProxy.heal(proxy)
    end

    Process.sleep(:rand.uniform(700))
  end

  # The client notices at once, and Redis gets the held bytes later.
  defp hold_and_cut(proxy, direction) do
    HoldingProxy.hold(proxy, direction: direction)
    Process.sleep(:rand.uniform(20))
    HoldingProxy.cut(proxy, :client)
  end

  defp print(report, title) do
    counts = Enum.map_join(report, ", ", fn {key, count} -> "#{key} #{count}" end)
    IO.puts("\nrandom schedules, #{title}: #{counts}")
  end

  defp start_behind_proxy(context, options \\ []) do
    proxy = HoldingProxy.start!(context.server.port)
    options = Keyword.merge([timeout: @timeout, pool_size: 1], options)
    config = start_instance(context, [url: HoldingProxy.url(proxy)] ++ options)
    {proxy, config}
  end

  defp attempt(call) do
    call.()
  rescue
    error in PowRedisCache.Error -> {:error, error.reason}
  end

  # Delivers what is held on connections that were given up, and waits until Redis has run it and they have
  # ended: one is left, the one in use.
  defp deliver(proxy) do
    HoldingProxy.pass(proxy)
    Wait.until(fn -> length(HoldingProxy.connections(proxy)) <= 1 end)
  end
end
