defmodule PowRedisCache.OutageTest do
  # Outages under load: how soon calls succeed after Redis replies again.
  use PowRedisCache.Case, async: false

  @moduletag :integration

  alias PowRedisCache.{HoldingProxy, Outage, SchedulerStalls}

  # Redis replies again to another client; so many milliseconds later calls have to succeed. The guide on
  # reliability has the measured times. The bound is generous, since the machine may be busy.
  @bound 3_000
  @callers 8

  @moduletag server: [], instance: [name: nil]

  test "calls succeed soon after outages of 1 to 4 s", context do
    measure(context, [{:kill, 4_000, 1_000}, {:suspend, 1_500, 5_000}, {:hold, 3_000, 2_000}])
  end

  @tag :long
  test "calls succeed soon after outages of 1 to 90 s", context do
    measure(context, [
      {:kill, 1_000, 5_000},
      {:suspend, 2_000, 1_000},
      {:hold, 4_000, 3_000},
      {:kill, 8_000, 2_000},
      {:drop, 10_000, 5_000},
      {:suspend, 15_000, 5_000},
      {:refuse, 20_000, 1_000},
      {:hold, 30_000, 2_000},
      {:suspend, 60_000, 4_000},
      {:kill, 90_000, 5_000}
    ])
  end

  defp measure(context, outages) do
    {results, _server} =
      Enum.map_reduce(outages, context.server, fn {kind, away, timeout}, server ->
        {reads, writes, server} = outage(%{context | server: server}, kind, away, timeout)
        {{"#{kind} for #{away} ms, timeout #{timeout} ms", reads, writes}, server}
      end)

    lines = for {title, reads, writes} <- results, do: "\n  #{title}: #{reads}, #{writes}"

    worst =
      results |> Enum.map(fn {_title, reads, writes} -> max(reads, writes) end) |> Enum.max()

    IO.puts(
      "\noutages: milliseconds from the first PING to the first read and the first write that " <>
        "succeed, worst #{worst}:#{lines}"
    )

    assert worst <= @bound
  end

  # Returns the milliseconds from the first successful `PING` of another client to the first read, and the
  # first write, that succeeds; and the server.
  defp outage(context, kind, away, timeout) do
    proxy = HoldingProxy.start!(context.server.port)
    config = start_instance(context, url: HoldingProxy.url(proxy), timeout: timeout)
    Wait.until(fn -> PowRedisCache.ping(config[:name]) == :ok end)
    succeeded = :atomics.new(2, signed: true)
    callers = for number <- 1..@callers, do: Task.async(fn -> call(config, succeeded, number) end)

    repair = Outage.begin(kind, context.server, proxy)
    Process.sleep(away)
    # Whatever succeeded so far, did so before the outage.
    for index <- 1..2, do: :atomics.put(succeeded, index, 0)
    server = repair.()
    Wait.until(fn -> answers?(proxy.port) end)
    back = now()
    firsts = for index <- 1..2, do: Wait.until(fn -> first(succeeded, index) end)
    for caller <- callers, do: send(caller.pid, :stop)
    Task.await_many(callers, 60_000)
    [reads, writes] = for first <- firsts, do: max(first - back - stalls(back, first), 0)
    {reads, writes, server}
  end

  # Half of the callers read, half of them write.
  defp call(config, succeeded, number) do
    receive do
      :stop -> :ok
    after
      10 ->
        index = 1 + rem(number, 2)

        try do
          if index == 1,
            do: PowRedisCache.get(config, {"key", number}),
            else: PowRedisCache.put(config, {{"key", number}, number})

          :atomics.compare_exchange(succeeded, index, 0, now())
        rescue
          PowRedisCache.Error -> :failed
        end

        call(config, succeeded, number)
    end
  end

  defp first(succeeded, index) do
    case :atomics.get(succeeded, index) do
      0 -> nil
      time -> time
    end
  end

  defp answers?(port) do
    with {:ok, client} <- RedisClient.connect(port) do
      :ok = :gen_tcp.send(client, "PING\r\n")
      reply = :gen_tcp.recv(client, 0, 100)
      RedisClient.close(client)
      reply == {:ok, "+PONG\r\n"}
    else
      {:error, _reason} -> false
    end
  end

  defp stalls(from, to), do: if(to > from, do: SchedulerStalls.between(from, to), else: 0)

  # Never 0.
  defp now, do: System.monotonic_time(:millisecond)
end
