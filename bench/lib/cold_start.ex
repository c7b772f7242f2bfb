defmodule PowRedisCache.Bench.ColdStart do
  @moduledoc "How long a VM that has just started takes from starting a client to its first answer."

  alias PowRedisCache.RedisServer
  alias PowRedisCache.Bench.{Client, Dataset, Runner}

  def run(settings) do
    server = RedisServer.start!()
    Runner.load(server, 1, 1)

    names = Enum.filter(Client.names(), &(&1 != "ets" and not String.contains?(&1, "first")))

    rounds =
      for _round <- 1..settings.rounds, name <- names, do: {name, start_vm(name, server.port)}

    RedisServer.stop(server)

    for {name, rounds} <- Enum.group_by(rounds, &elem(&1, 0), &elem(&1, 1)),
        into: %{},
        do: {name, Runner.median(rounds)}
  end

  # Its code path is ours.
  defp start_vm(name, port) do
    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])
    code = "#{inspect(__MODULE__)}.first_answer(#{inspect(name)}, #{port})"
    {output, 0} = System.cmd("elixir", paths ++ ["-e", code])
    output |> String.split() |> List.last() |> String.to_float()
  end

  @doc "Prints the milliseconds."
  def first_answer(name, port) do
    # A Redix on the code path is put there when its name is asked for.
    true = name in Client.names()
    {:ok, _started} = Application.ensure_all_started(:logger)
    Logger.configure(level: :error)
    begin = System.monotonic_time(:microsecond)
    [contender] = Client.start([name], port, 0, [])
    {_user, _metadata} = contender.get.(Dataset.session(1, 1))
    IO.puts((System.monotonic_time(:microsecond) - begin) / 1_000)
  end
end
