defmodule PowRedisCache.WaitingTest do
  # What calls wait for, what they do not wait for, and for how long.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  alias PowRedisCache.{Error, FakeServer, HoldingProxy, SchedulerStalls}

  # A call may end this many milliseconds later than it should, without stalls of the machine.
  @grace 500

  describe "a dead idle connection costs no call more than half of the timeout," do
    @describetag server: [], instance: [name: nil]
    @timeout 3_000

    for pool_size <- [1, 2, 4], idle <- [0, 7_000] do
      # Idle connections send heartbeats, and notice it themselves then.
      if idle > 0, do: @tag(:long)

      test "with #{pool_size} connections that died #{idle} ms ago", context do
        proxy = HoldingProxy.start!(context.server.port)
        options = [url: HoldingProxy.url(proxy), timeout: @timeout, pool_size: unquote(pool_size)]
        config = start_instance(context, options)
        Wait.until(fn -> length(HoldingProxy.connections(proxy)) == unquote(pool_size) end)
        PowRedisCache.put(config, {"key", 1})
        HoldingProxy.hold(proxy)
        Process.sleep(unquote(idle))

        # At the same time, and one after the other: each of the connections is dead.
        tasks =
          for _ <- 1..4,
              do: Task.async(fn -> measure(fn -> PowRedisCache.get(config, "key") end) end)

        put = Task.async(fn -> measure(fn -> PowRedisCache.put(config, {"other", 1}) end) end)
        later = for _ <- 1..6, do: measure(fn -> PowRedisCache.get(config, "key") end)

        for {outcome, took} <- Task.await_many([put | tasks], 60_000) ++ later do
          assert outcome in [:ok, 1]
          assert took <= div(@timeout, 2) + @grace
        end
      end
    end
  end

  test "a slow reply is waited for, since the server is not silent" do
    # It takes longer than half of the timeout, after which a silent server is given up.
    value = String.duplicate("x", 80_000)
    reply = value |> :erlang.term_to_binary() |> PowRedisCache.Resp.bulk()

    serve = fn
      ["GET", _key] -> reply |> chunks(4_000) |> Enum.flat_map(&[{:send, &1}, {:pause, 100}])
      command -> [{:send, FakeServer.reply(command)}]
    end

    server = FakeServer.start!([{:serve, serve}])
    config = start_for(server.url, timeout: 3_000, pool_size: 1)
    # With the stalls of the machine, during which the server pauses as well.
    {microseconds, outcome} = :timer.tc(fn -> PowRedisCache.get(config, "key") end)
    assert outcome == value
    assert microseconds >= 1_500_000
    assert FakeServer.connections(server) == 1
  end

  test "a Unix socket that accepts no connection is not waited for" do
    path = Path.join(System.tmp_dir!(), "pow_redis_cache_full_#{System.pid()}.sock")
    on_exit(fn -> File.rm(path) end)
    fill_backlog(path)
    config = start_for("unix://#{path}", timeout: 300, connect_timeout: 500)

    for call <- [
          fn -> PowRedisCache.get(config, "key") end,
          fn -> PowRedisCache.put(config, {"key", 1}) end
        ] do
      {{:error, reason}, took} = measure(call)
      assert reason in [:timeout, :disconnected]
      assert took <= 300 + @grace
    end

    :ok = stop_supervised(config[:name])
    # A thread that waits for the socket ends within the timeout of a connect.
    await_end_of_threads()
  end

  @tag server: ["--proto-max-bulk-len", "1mb"], instance: [timeout: 10_000, pool_size: 1]
  test "a value that the server refuses fails its put, and no other", %{config: config} do
    huge = :crypto.strong_rand_bytes(20_000_000)
    put = Task.async(fn -> measure(fn -> PowRedisCache.put(config, {"huge", huge}) end) end)

    others =
      for number <- 1..10 do
        Process.sleep(20)

        Task.async(fn ->
          measure(fn -> PowRedisCache.put(config, {["other", number], number}) end)
        end)
      end

    for {outcome, _took} <- Task.await_many(others, 60_000), do: assert(outcome == :ok)

    # The server says why before it closes the connection, but its words may be lost with the connection.
    {{:error, reason}, took} = Task.await(put, 60_000)
    assert reason in [:server, :connection_lost]
    assert took < 5_000
    assert length(PowRedisCache.all(config, ["other", :_])) == 10
    assert PowRedisCache.info(config[:name]).reconnects <= 3
  end

  describe "calls wait and succeed" do
    @tag server: ["--lua-time-limit", "50"], instance: [timeout: 10_000]
    test "while a script keeps Redis busy (BUSY)", %{config: config, server: server} do
      PowRedisCache.put(config, {"key", 1})
      endless = run_endless_script(server)
      calls = start_calls(config)
      fresh = start_for(RedisServer.url(server), timeout: 10_000)
      fresh_call = Task.async(fn -> measure(fn -> PowRedisCache.ping(fresh[:name]) end) end)
      assert_waiting(calls)
      assert RedisServer.command!(server, ["SCRIPT", "KILL"]) == "OK"
      assert {:error, _killed} = Task.await(endless, 60_000)
      assert_succeed(calls)
      assert {:ok, _took} = Task.await(fresh_call, 60_000)
    end

    @tag server: [], instance: [timeout: 10_000]
    test "while the primary has too few replicas (NOREPLICAS)", context do
      %{config: config, client: client} = context
      PowRedisCache.put(config, {"key", 1})
      RedisClient.command!(client, ["CONFIG", "SET", "min-replicas-to-write", "1"])
      put = Task.async(fn -> measure(fn -> PowRedisCache.put(config, {"waits", 1}) end) end)
      delete = Task.async(fn -> measure(fn -> PowRedisCache.delete(config, "key") end) end)
      assert_waiting([put, delete])
      assert PowRedisCache.get(config, "key") == 1
      RedisClient.command!(client, ["CONFIG", "SET", "min-replicas-to-write", "0"])
      assert_succeed([put, delete])
      assert PowRedisCache.get(config, "waits") == 1
      assert PowRedisCache.get(config, "key") == :not_found
    end
  end

  describe "calls fail at once" do
    @tag server: [], instance: [timeout: 10_000]
    test "for what stays until somebody acts (MISCONF)", context do
      %{config: config, client: client, server: server} = context
      # The snapshot cannot be saved, since its folder is gone.
      File.rm_rf!(server.folder)
      RedisClient.command!(client, ["CONFIG", "SET", "save", "3600 1"])
      Wait.until(fn -> misconfigured?(client) end)
      {outcome, took} = measure(fn -> PowRedisCache.put(config, {"key", 1}) end)
      assert outcome == {:error, :server}
      assert took <= @grace
    end
  end

  # Redis refuses writes when it could not save a snapshot.
  defp misconfigured?(client) do
    RedisClient.command(client, ["BGSAVE"])
    match?({:error, "MISCONF" <> _}, RedisClient.command(client, ["SET", "probe", "1"]))
  end

  defp run_endless_script(server) do
    script = Task.async(fn -> RedisServer.command(server, ["EVAL", "while true do end", "0"]) end)
    Wait.until(fn -> match?({:error, "BUSY" <> _}, RedisServer.command(server, ["PING"])) end)
    script
  end

  defp start_calls(config) do
    for call <- [
          fn -> PowRedisCache.get(config, "key") end,
          fn -> PowRedisCache.put(config, {"other", 1}) end,
          fn -> PowRedisCache.all(config, [:_]) end,
          fn -> PowRedisCache.delete(config, "nothing") end
        ],
        do: Task.async(fn -> measure(call) end)
  end

  # Long enough for a call that does not wait to end.
  defp assert_waiting(tasks) do
    Process.sleep(1_000)
    assert Enum.all?(tasks, &Process.alive?(&1.pid))
  end

  defp assert_succeed(tasks) do
    for {outcome, _took} <- Task.await_many(tasks, 60_000),
        do: refute(match?({:error, _}, outcome))
  end

  defp measure(call) do
    SchedulerStalls.time(fn ->
      try do
        call.()
      rescue
        error in Error -> {:error, error.reason}
      end
    end)
  end

  defp start_for(url, options) do
    name = unique_name()
    start_supervised!({PowRedisCache, [name: name, url: url] ++ options}, id: name)
    [name: name, namespace: "waiting", ttl: 60_000]
  end

  defp chunks(bytes, size) when byte_size(bytes) <= size, do: [bytes]

  defp chunks(bytes, size) do
    <<chunk::binary-size(size), rest::binary>> = bytes
    [chunk | chunks(rest, size)]
  end

  # A further connect waits until the listener accepts one, which it does not.
  defp fill_backlog(path) do
    {:ok, listener} = :socket.open(:local, :stream)
    :ok = :socket.bind(listener, %{family: :local, path: path})
    :ok = :socket.listen(listener, 0)
    {:ok, client} = :socket.open(:local, :stream)
    :ok = :socket.connect(client, %{family: :local, path: path})
    on_exit(fn -> for socket <- [client, listener], do: :socket.close(socket) end)
  end

  # Other tests run at the same time: threads that exist now have to end.
  defp await_end_of_threads do
    waiting = connecting_threads()
    Wait.until(fn -> connecting_threads() -- waiting == connecting_threads() end)
  end

  defp connecting_threads do
    for thread <- File.ls!("/proc/self/task"),
        {:ok, name} <- [File.read("/proc/self/task/#{thread}/comm")],
        String.starts_with?(name, "pow_redis_conn"),
        do: thread
  end
end
