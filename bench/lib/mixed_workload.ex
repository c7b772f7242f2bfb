defmodule PowRedisCache.Bench.MixedWorkload do
  @moduledoc "Measures gets while another process lists all users among a million keys."

  alias PowRedisCache.RedisServer
  alias PowRedisCache.Bench.{Client, Dataset, LoadGenerator, Runner}

  @keys 1_000_000
  @sessions 3
  @callers [1, 8, 64]

  def run(settings) do
    server = RedisServer.start!()
    users = Dataset.users(@keys)
    Runner.load(server, users, @sessions)
    names = Client.names() -- ["ets"]
    names = Enum.reject(names, &String.contains?(&1, "v1"))
    clients = Client.start(names, server.port, 0, [])

    result =
      for callers <- @callers,
          client <- clients do
        rounds = for _round <- 1..settings.rounds, do: round(client, callers, users, settings.ms)

        {gets_only, mixed} = Enum.unzip(rounds)

        %{
          client: client.name,
          callers: callers,
          gets_only_p50_us: median(gets_only, 0.5),
          gets_only_p99_us: median(gets_only, 0.99),
          mixed_p50_us: median(mixed, 0.5),
          mixed_p99_us: median(mixed, 0.99)
        }
      end

    Client.stop(clients)
    RedisServer.stop(server)
    result
  end

  # The times of gets without a listing, and during one.
  defp round(client, callers, users, ms) do
    gets_only = times(client, callers, users, ms)
    lister = spawn_link(fn -> list(client, users) end)
    mixed = times(client, callers, users, ms)
    send(lister, {:stop, self()})
    receive(do: (:stopped -> {gets_only, mixed}))
  end

  defp list(client, users) do
    records = client.all.(Dataset.user_key(:_))
    true = length(records) == users

    receive do
      {:stop, pid} -> send(pid, :stopped)
    after
      0 -> list(client, users)
    end
  end

  defp times(client, callers, users, ms) do
    call = fn caller, number, _prepared ->
      user = rem(caller * 7919 + number * 104_729, users) + 1
      {[_struct, :user, ^user], _metadata} = client.get.(Dataset.session(user, 1))
    end

    {times, _duration, _costs} =
      LoadGenerator.run(callers, {:for, ms}, fn _caller -> nil end, call, &Map.new/0)

    Enum.sort(times)
  end

  defp median(rounds, part) do
    rounds |> Enum.map(&Runner.percentile(&1, length(&1), part)) |> Runner.median()
  end
end
