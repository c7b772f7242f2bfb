defmodule PowRedisCache.Bench.NearHits do
  @moduledoc """
  Measures reads from the near cache beside `:ets.lookup/2` of the same records, and beside Pow's backend v2.
  """

  alias PowRedisCache.Bench.{Client, Dataset, LoadGenerator, NearData, Runner}

  @users 5_000
  @near :"pow_redis_cache, near_cache: true"
  @v2 "Pow backend v2 on Redix"
  @callers [1, 64]
  # How many hits may be misses: no request was answered in time, on a busy machine.
  @missed 0.01

  @doc "Returns the rates and medians of each record, number of callers and client."
  def run(settings) do
    NearData.with_redis(@users, fn server ->
      near = NearData.start_ours(@near, server.port, near_cache: true)
      others = Client.start(Enum.filter([@v2], &(&1 in Client.names())), server.port, 0, [])
      clients = [near, ets() | others]
      for user <- 1..@users, do: NearData.view_page(near, user)
      before = NearData.near_cache(@near)

      results =
        for {record, key} <- [session: &NearData.session/1, user: &Dataset.user_key/1],
            callers <- @callers,
            result <- measure(clients, key, callers, settings),
            do: Map.put(result, :record, record)

      later = NearData.near_cache(@near)
      true = later.misses - before.misses < @missed * (later.hits - before.hits)
      Enum.each([near | others], & &1.stop.())
      results
    end)
  end

  # In each round, the clients take turns.
  defp measure(clients, key, callers, settings) do
    rounds =
      for _round <- 1..settings.rounds,
          client <- Enum.shuffle(clients),
          do: {client.name, round(client, key, callers, settings.ms)}

    for {name, rounds} <- Enum.group_by(rounds, &elem(&1, 0), &elem(&1, 1)) do
      %{
        client: name,
        callers: callers,
        rate: rounds |> Enum.map(& &1.rate) |> Runner.median(),
        p50_us: rounds |> Enum.map(& &1.p50_us) |> Runner.median()
      }
    end
  end

  defp round(client, key, callers, ms) do
    prepare = fn _caller -> 1..@users |> Enum.map(key) |> List.to_tuple() end

    call = fn caller, number, keys ->
      true = client.get.(elem(keys, rem(caller * 7919 + number * 104_729, @users))) != :not_found
    end

    {times, duration, _costs} = LoadGenerator.run(callers, {:for, ms}, prepare, call, &Map.new/0)

    calls = length(times)

    %{
      rate: calls * 1.0e9 / duration,
      p50_us: times |> Enum.sort() |> Runner.percentile(calls, 0.5)
    }
  end

  defp ets do
    table = :ets.new(:bench, [:public, read_concurrency: true, write_concurrency: true])

    # As Redis returns them: strings that were just built may take longer to copy.
    for user <- 1..@users, record <- NearData.records(user) do
      :ets.insert(table, record |> :erlang.term_to_binary() |> :erlang.binary_to_term())
    end

    %Client{
      name: "ets",
      get: fn key ->
        [{_key, value}] = :ets.lookup(table, key)
        value
      end,
      put: nil,
      delete: nil,
      all: nil,
      stop: nil
    }
  end
end
