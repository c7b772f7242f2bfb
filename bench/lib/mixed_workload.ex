defmodule PowRedisCache.Bench.MixedWorkload do
  @moduledoc """
  Measures gets while another process lists all users among a million keys, and how long both take without
  the other. The default index of this package has no set of all users, so that it scans.
  """

  alias PowRedisCache.RedisServer
  alias PowRedisCache.Bench.{Client, Dataset, LoadGenerator, Runner}

  @keys 1_000_000
  @sessions 3
  @callers 8
  # A client whose listing takes longer is measured once.
  @slow_us 10_000_000

  def run(settings) do
    server = RedisServer.start!()
    users = Dataset.users(@keys)
    Runner.load(server, users, @sessions)
    names = Enum.reject(Client.names(), &(&1 == "ets" or String.contains?(&1, "v1")))
    clients = Client.start([Client.every_prefix() | names], server.port, 0, [])

    measured =
      for _round <- 1..settings.rounds, client <- Enum.shuffle(clients), reduce: %{} do
        measured -> take_turn(measured, client, users, settings.ms)
      end

    Client.stop(clients)
    RedisServer.stop(server)

    for {name, rounds} <- measured,
        do: rounds |> medians() |> Map.merge(%{client: name, callers: @callers})
  end

  defp take_turn(measured, client, users, ms) do
    case measured[client.name] do
      [%{list_us: us} | _] when us > @slow_us -> measured
      rounds -> Map.put(measured, client.name, [round(client, users, ms) | rounds || []])
    end
  end

  # The times without the other, then of both at once.
  defp round(client, users, ms) do
    list_us = list(client, users)
    gets = gets(client, users, {:for, ms})
    list = Task.async(fn -> list(client, users) end)
    mixed_gets = gets(client, users, {:while, list.pid})
    mixed_list_us = Task.await(list, :infinity)

    %{
      list_us: list_us,
      gets_only_p50_us: percentile(gets, 0.5),
      gets_only_p99_us: percentile(gets, 0.99),
      mixed_list_us: mixed_list_us,
      mixed_p50_us: percentile(mixed_gets, 0.5),
      mixed_p99_us: percentile(mixed_gets, 0.99)
    }
  end

  defp list(client, users) do
    {us, records} = :timer.tc(fn -> client.all.(Dataset.user_key(:_)) end)
    true = length(records) == users
    us
  end

  defp gets(client, users, extent) do
    call = fn caller, number, _prepared ->
      user = rem(caller * 7919 + number * 104_729, users) + 1
      {[_struct, :user, ^user], _metadata} = client.get.(Dataset.session(user, 1))
    end

    {times, _duration, _costs} =
      LoadGenerator.run(@callers, extent, fn _caller -> nil end, call, &Map.new/0)

    Enum.sort(times)
  end

  defp percentile(times, part), do: Runner.percentile(times, length(times), part)

  defp medians([first | _] = rounds) do
    Map.new(first, fn {key, _value} -> {key, rounds |> Enum.map(& &1[key]) |> Runner.median()} end)
  end
end
