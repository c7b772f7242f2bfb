defmodule PowRedisCache.Bench.ColdStart do
  @moduledoc "Measures the time from starting a client to its first reply, in a new VM."

  alias PowRedisCache.RedisServer
  alias PowRedisCache.Bench.{Client, Dataset, Runner}

  def run(settings) do
    server = RedisServer.start!()
    Runner.load(server, 1, 1)

    names = Enum.filter(Client.names(), &(&1 != "ets" and not String.contains?(&1, "v1")))

    rounds =
      for _round <- 1..settings.rounds, name <- names, do: {name, start_vm(name, server.port)}

    RedisServer.stop(server)

    for {name, rounds} <- Enum.group_by(rounds, &elem(&1, 0), &elem(&1, 1)),
        into: %{},
        do: {name, Runner.median(rounds)}
  end

  # The new VM has the code path of this one.
  defp start_vm(name, port) do
    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])
    code = "#{inspect(__MODULE__)}.first_reply(#{inspect(name)}, #{port})"
    {output, 0} = System.cmd("elixir", paths ++ ["-e", code])
    output |> String.split() |> List.last() |> String.to_float()
  end

  @doc "Prints the milliseconds until the first reply."
  def first_reply(name, port) do
    # `names/0` adds Redix to the code path.
    true = name in Client.names()
    {:ok, _started} = Application.ensure_all_started(:logger)
    Logger.configure(level: :error)
    begin = System.monotonic_time(:microsecond)
    [client] = Client.start([name], port, 0, [])
    {_user, _metadata} = client.get.(Dataset.session(1, 1))
    IO.puts((System.monotonic_time(:microsecond) - begin) / 1_000)
  end
end
