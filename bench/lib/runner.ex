defmodule PowRedisCache.Bench.Runner do
  @moduledoc """
  Runs scenarios. In each round, all clients of a scenario take turns, in a different order each time. The
  result is the median of the rounds.
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

  @read_database 0
  @write_database 1
  # A client that took longer in the first round is measured once.
  @slow_ns 8_000_000_000
  @chunk 5_000

  @doc """
  Runs scenarios. `settings` has `:rounds`, `:ms`, `:only` (a part of the scenarios' names) and `:proxy`.
  """
  def run(scenarios, settings) do
    scenarios
    |> Enum.filter(&String.contains?(&1.name, settings.only))
    |> Enum.chunk_by(&{&1.users, &1.sessions})
    |> Enum.flat_map(&run_group(&1, settings))
  end

  # Scenarios on the same records.
  defp run_group([%Scenario{users: users, sessions: sessions} | _] = scenarios, settings) do
    server = RedisServer.start!()
    redis_client = RedisClient.connect!(server.port)
    networks = Network.start_all(server, settings.proxy)
    load(server, users, sessions)

    results =
      for network <- networks,
          {writes, scenarios} <- Enum.group_by(scenarios, & &1.writes),
          result <- run_on(network, writes, scenarios, redis_client, settings),
          do: result

    Network.stop_all(networks)
    RedisClient.close(redis_client)
    RedisServer.stop(server)
    results
  end

  defp run_on(network, writes, scenarios, redis_client, settings) do
    %Scenario{users: users, sessions: sessions} = hd(scenarios)
    names = for name <- Client.names(), network.name == "loopback" or name != "ets", do: name
    names = Enum.uniq(names ++ Enum.flat_map(scenarios, & &1.with))
    database = if writes, do: @write_database, else: @read_database
    records = Dataset.stream(users, sessions)
    clients = Client.start(names, network.port, database, records)

    results =
      Enum.flat_map(scenarios, &run_scenario(&1, network, clients, redis_client, settings))

    Client.stop(clients)
    results
  end

  defp run_scenario(scenario, network, clients, redis_client, settings) do
    excluded =
      if network.name == "loopback",
        do: scenario.without,
        else: scenario.without ++ scenario.without_far

    included = (Client.names() ++ scenario.with) -- excluded
    clients = Enum.filter(clients, &(&1.name in included))

    measures =
      Enum.map(clients, &{&1.name, fn -> measure(scenario, &1, redis_client, settings) end})

    measures = measures ++ redis_benchmark(scenario, network, settings)

    measured =
      for round <- 1..settings.rounds, reduce: %{} do
        measured -> Enum.reduce(rotate(measures, round), measured, &take_turn/2)
      end

    for {name, _measure} <- measures do
      scenario
      |> result(Enum.reverse(measured[name]))
      |> Map.merge(%{
        scenario: scenario.name,
        callers: scenario.callers,
        network: network.name,
        client: name
      })
      |> tap(&print/1)
    end
  end

  defp take_turn({name, measure}, measured) do
    case measured[name] do
      [%{duration_ns: ns} | _] when ns > @slow_ns -> measured
      so_far -> Map.put(measured, name, [measure.() | so_far || []])
    end
  end

  defp rotate(list, by),
    do: Enum.drop(list, rem(by, length(list))) ++ Enum.take(list, rem(by, length(list)))

  defp measure(scenario, client, redis_client, settings) do
    if scenario.writes, do: empty(redis_client)
    extent = if scenario.times, do: {:times, scenario.times}, else: {:for, settings.ms}
    prepare = scenario.prepare || fn _scenario, _client, _caller -> nil end

    {times, duration, costs} =
      LoadGenerator.run(
        scenario.callers,
        extent,
        &prepare.(scenario, client, &1),
        fn caller, number, _prepared -> scenario.call.(scenario, client, caller, number) end,
        fn -> Counters.read(redis_client) end
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

  defp empty(redis_client) do
    RedisClient.command!(redis_client, ["SELECT", @write_database])
    RedisClient.command!(redis_client, ["FLUSHDB", "SYNC"])
    Process.put(Counters, Process.get(Counters, 0) + 2)
  end

  defp redis_benchmark(%Scenario{command: nil}, _network, _settings), do: []

  defp redis_benchmark(scenario, network, settings) do
    per_caller = if network.name == "loopback", do: 20, else: 0.8
    calls = round(settings.ms * max(per_caller, min(scenario.callers, 64) * 0.8))

    [
      {RedisBenchmark.name(),
       fn ->
         {rate, p50, p99} =
           RedisBenchmark.run(network.port, scenario.command, scenario.callers, calls)

         %{duration_ns: 0, calls: calls, rate: rate, p50_us: p50, p99_us: p99}
       end}
    ]
  end

  @doc "A percentile of sorted nanoseconds, in microseconds."
  def percentile(sorted, number, part),
    do: Enum.at(sorted, min(number - 1, trunc(number * part))) / 1_000

  defp result(_scenario, rounds) do
    for key <- [:rate, :p50_us, :p99_us, :vm_cpu_us, :redis_cpu_us, :commands],
        values = for(round <- rounds, value = round[key], do: value),
        values != [],
        into: %{rounds: length(rounds), rates: Enum.map(rounds, &round(&1.rate))},
        do: {key, median(values)}
  end

  @doc "The median."
  def median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  defp print(result) do
    IO.puts(
      Enum.join(
        [
          String.pad_trailing(
            "#{result.scenario}, #{result.callers} callers, #{result.network}",
            48
          ),
          String.pad_trailing(result.client, 26),
          number(result.rate, "/s"),
          number(result.p50_us, " us"),
          number(result.p99_us, " us")
        ],
        " "
      )
    )
  end

  defp number(value, unit), do: String.pad_leading("#{round(value)}#{unit}", 12)

  @doc """
  Writes the records of `users` users to a server, into the database that is only read. Enters every prefix,
  as Pow's backend v2 reads other index sets than this package does by default.
  """
  def load(server, users, sessions) do
    [client] = Client.start([Client.every_prefix()], server.port, @read_database, [])

    users
    |> Dataset.stream(sessions)
    |> Stream.chunk_every(@chunk)
    |> Enum.each(fn records -> :ok = client.put.(records) end)

    Client.stop([client])
  end
end
