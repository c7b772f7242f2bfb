defmodule PowRedisCache.Bench.NearCalls do
  @moduledoc """
  Measures calls that go to Redis, with and without a near cache, and pages, also with Pow's backend v2.
  """

  alias PowRedisCache.Bench.{Client, LoadGenerator, NearData, Network, Runner}

  @v2 "Pow backend v2 on Redix"
  @variants [
    "pow_redis_cache, near_cache: true": [near_cache: true],
    pow_redis_cache: [near_cache: false]
  ]
  # Each caller has its own: many by one, fewer by one of many.
  @users 10_000
  @times %{
    {1, "loopback"} => 2_000,
    {1, "1 ms"} => 300,
    {64, "loopback"} => 150,
    {64, "1 ms"} => 100
  }

  @doc "Returns the rates and medians of each call, network, number of callers and client."
  def run(settings) do
    NearData.with_redis(@users, fn server ->
      networks = Network.start_all(server, settings.proxy)

      results =
        for network <- networks,
            {call, measured} <- calls(),
            callers <- [1, 64],
            result <- measure(network, measured, callers, settings.rounds),
            do: Map.merge(result, %{call: call, network: network.name, callers: callers})

      Network.stop_all(networks)
      results
    end)
  end

  # What a caller does first with each of its users, what is measured, and whether Pow's backend takes part.
  # Those that are put and deleted are others than those that are only read.
  defp calls do
    get = &({_user_key, _metadata} = &1.get.(NearData.session(&2)))
    put = &(:ok = &1.put.([NearData.session_record(&2 + @users)]))
    delete = &(:ok = &1.delete.(NearData.session(&2 + @users)))

    put_and_get = fn client, user ->
      put.(client, user)
      get.(client, user + @users)
    end

    [
      {"page", {&NearData.view_page/2, &NearData.view_page/2, [@v2]}},
      {"get, miss", {fn _client, _user -> nil end, get, []}},
      {"put of a new session", {delete, put, []}},
      {"put of a session that was read", {put_and_get, put, []}},
      {"delete of a session that was read", {put_and_get, delete, []}}
    ]
  end

  # In each round, the clients take turns, as new as the others: what was read before must not be near.
  defp measure(network, {first, call, others}, callers, rounds) do
    names = Keyword.keys(@variants) ++ Enum.filter(others, &(&1 in Client.names()))

    measured =
      for _round <- 1..rounds, name <- Enum.shuffle(names) do
        client = start(name, network.port)
        result = round(client, first, call, callers, @times[{callers, network.name}])
        client.stop.()
        {name, result}
      end

    for {name, rounds} <- Enum.group_by(measured, &elem(&1, 0), &elem(&1, 1)) do
      %{
        client: name,
        rate: rounds |> Enum.map(& &1.rate) |> Runner.median(),
        p50_us: rounds |> Enum.map(& &1.p50_us) |> Runner.median()
      }
    end
  end

  defp start(@v2, port), do: [@v2] |> Client.start(port, 0, []) |> hd()
  defp start(name, port), do: NearData.start_ours(name, port, @variants[name])

  defp round(client, first, call, callers, times) do
    user = fn caller, number -> (caller - 1) * times + number end

    prepare = fn caller ->
      for number <- 1..times, do: first.(client, user.(caller, number))
      # The connection is as warm if there was nothing to do.
      for _time <- 1..100, do: :not_found = client.get.("missing")
    end

    {times, duration, _costs} =
      LoadGenerator.run(
        callers,
        {:times, times},
        prepare,
        fn caller, number, _prepared -> call.(client, user.(caller, number)) end,
        &Map.new/0
      )

    calls = length(times)

    %{
      rate: calls * 1.0e9 / duration,
      p50_us: times |> Enum.sort() |> Runner.percentile(calls, 0.5)
    }
  end
end
