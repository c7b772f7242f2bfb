defmodule PowRedisCache.Bench.MixedWorkload do
  @moduledoc "How long a get takes while another process lists the users among a million keys."

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
    names = Enum.reject(names, &String.contains?(&1, "first"))
    contenders = Client.start(names, server.port, 0, [])

    result =
      for callers <- @callers,
          contender <- contenders do
        rounds =
          for _round <- 1..settings.rounds, do: round(contender, callers, users, settings.ms)

        {alone, beside} = Enum.unzip(rounds)

        %{
          contender: contender.name,
          callers: callers,
          alone_p50_us: median(alone, 0.5),
          alone_p99_us: median(alone, 0.99),
          beside_p50_us: median(beside, 0.5),
          beside_p99_us: median(beside, 0.99)
        }
      end

    Client.stop(contenders)
    RedisServer.stop(server)
    result
  end

  # Times without a listing, and with one that does not end before.
  defp round(contender, callers, users, ms) do
    alone = times(contender, callers, users, ms)
    lister = spawn_link(fn -> list(contender, users) end)
    beside = times(contender, callers, users, ms)
    send(lister, {:stop, self()})
    receive(do: (:stopped -> {alone, beside}))
  end

  defp list(contender, users) do
    records = contender.all.(Dataset.user_key(:_))
    true = length(records) == users

    receive do
      {:stop, pid} -> send(pid, :stopped)
    after
      0 -> list(contender, users)
    end
  end

  defp times(contender, callers, users, ms) do
    call = fn caller, number, _prepared ->
      user = rem(caller * 7919 + number * 104_729, users) + 1
      {[_struct, :user, ^user], _metadata} = contender.get.(Dataset.session(user, 1))
    end

    {times, _duration, _costs} =
      LoadGenerator.run(callers, {:for, ms}, fn _caller -> nil end, call, &Map.new/0)

    Enum.sort(times)
  end

  defp median(rounds, part) do
    rounds |> Enum.map(&Runner.percentile(&1, length(&1), part)) |> Runner.median()
  end
end
