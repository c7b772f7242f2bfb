defmodule PowRedisCache.Bench.Runner do
  @moduledoc """
  Measures rows. The contenders of a row take turns, in another order each round; what is told is the
  median of the rounds.
  """

  alias PowRedisCache.{RedisClient, RedisServer}

  alias PowRedisCache.Bench.{
    Client,
    Dataset,
    LoadGenerator,
    Counters,
    Network,
    RedisBenchmark,
    Scenario
  }

  @shared 0
  @own 1
  # A contender whose measure took longer is measured once.
  @slow_ns 8_000_000_000
  @chunk 5_000

  @doc "Measures all rows; `settings` has `:rounds`, `:ms`, `:only` (a part of names) and `:proxy`."
  def run(rows, settings) do
    rows
    |> Enum.filter(&String.contains?(&1.name, settings.only))
    |> Enum.chunk_by(&{&1.users, &1.sessions})
    |> Enum.flat_map(&run_group(&1, settings))
  end

  # Rows on the same records.
  defp run_group([%Scenario{users: users, sessions: sessions} | _] = rows, settings) do
    server = RedisServer.start!()
    client = RedisClient.connect!(server.port)
    networks = Network.start_all(server, settings.proxy)
    load(server, users, sessions)

    results =
      for network <- networks,
          {writes, rows} <- Enum.group_by(rows, & &1.writes),
          result <- run_on(network, writes, rows, client, settings),
          do: result

    Network.stop_all(networks)
    RedisClient.close(client)
    RedisServer.stop(server)
    results
  end

  defp run_on(network, writes, rows, client, settings) do
    %Scenario{users: users, sessions: sessions} = hd(rows)
    names = for name <- Client.names(), network.name == "loopback" or name != "ets", do: name
    database = if writes, do: @own, else: @shared
    records = Dataset.stream(users, sessions)
    contenders = Client.start(names, network.port, database, records)
    results = Enum.flat_map(rows, &run_row(&1, network, contenders, client, settings))
    Client.stop(contenders)
    results
  end

  defp run_row(row, network, contenders, client, settings) do
    left_out =
      if network.name == "loopback", do: row.without, else: row.without ++ row.without_far

    contenders = Enum.reject(contenders, &(&1.name in left_out))
    measures = Enum.map(contenders, &{&1.name, fn -> measure(row, &1, client, settings) end})
    measures = measures ++ redis_benchmark(row, network, settings)

    taken =
      for round <- 1..settings.rounds, reduce: %{} do
        taken -> Enum.reduce(rotate(measures, round), taken, &take_turn/2)
      end

    for {name, _measure} <- measures do
      row
      |> result(Enum.reverse(taken[name]))
      |> Map.merge(%{row: row.name, callers: row.callers, network: network.name, contender: name})
      |> tap(&tell/1)
    end
  end

  defp take_turn({name, measure}, taken) do
    case taken[name] do
      [%{duration_ns: ns} | _] when ns > @slow_ns -> taken
      so_far -> Map.put(taken, name, [measure.() | so_far || []])
    end
  end

  defp rotate(list, by),
    do: Enum.drop(list, rem(by, length(list))) ++ Enum.take(list, rem(by, length(list)))

  defp measure(row, contender, client, settings) do
    if row.writes, do: empty(client)
    extent = if row.times, do: {:times, row.times}, else: {:for, settings.ms}
    prepare = row.prepare || fn _row, _contender, _caller -> nil end

    {times, duration, costs} =
      LoadGenerator.run(
        row.callers,
        extent,
        &prepare.(row, contender, &1),
        fn caller, number, _prepared -> row.call.(row, contender, caller, number) end,
        fn -> Counters.read(client) end
      )

    calls = length(times)
    sorted = Enum.sort(times)

    %{
      duration_ns: duration,
      calls: calls,
      rate: calls * 1.0e9 / duration,
      p50_us: percentile(sorted, calls, 0.5),
      p99_us: percentile(sorted, calls, 0.99)
    }
    |> Map.merge(Map.new(costs, fn {key, value} -> {key, value / calls} end))
  end

  defp empty(client) do
    RedisClient.command!(client, ["SELECT", @own])
    RedisClient.command!(client, ["FLUSHDB", "SYNC"])
    Process.put(Counters, Process.get(Counters, 0) + 2)
  end

  defp redis_benchmark(%Scenario{command: nil}, _network, _settings), do: []

  defp redis_benchmark(row, network, settings) do
    per_caller = if network.name == "loopback", do: 20, else: 0.8
    calls = round(settings.ms * max(per_caller, min(row.callers, 64) * 0.8))

    [
      {RedisBenchmark.name(),
       fn ->
         {rate, p50, p99} = RedisBenchmark.run(network.port, row.command, row.callers, calls)
         %{duration_ns: 0, calls: calls, rate: rate, p50_us: p50, p99_us: p99}
       end}
    ]
  end

  @doc "A percentile of sorted nanoseconds, in microseconds."
  def percentile(sorted, number, part),
    do: Enum.at(sorted, min(number - 1, trunc(number * part))) / 1_000

  defp result(_row, rounds) do
    for key <- [:rate, :p50_us, :p99_us, :vm_cpu_us, :redis_cpu_us, :commands],
        values = for(round <- rounds, value = round[key], do: value),
        values != [],
        into: %{rounds: length(rounds), rates: Enum.map(rounds, &round(&1.rate))},
        do: {key, median(values)}
  end

  @doc "The median."
  def median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  defp tell(result) do
    IO.puts(
      Enum.join(
        [
          String.pad_trailing("#{result.row}, #{result.callers} callers, #{result.network}", 48),
          String.pad_trailing(result.contender, 26),
          number(result.rate, "/s"),
          number(result.p50_us, " us"),
          number(result.p99_us, " us")
        ],
        " "
      )
    )
  end

  defp number(value, unit), do: String.pad_leading("#{round(value)}#{unit}", 12)

  @doc "Writes the records of so many users into a server's database of records to read."
  def load(server, users, sessions) do
    [contender] = Client.start(["pow_redis_cache"], server.port, @shared, [])

    users
    |> Dataset.stream(sessions)
    |> Stream.chunk_every(@chunk)
    |> Enum.each(fn records -> :ok = contender.put.(records) end)

    Client.stop([contender])
  end
end
