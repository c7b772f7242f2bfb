defmodule PowRedisCache.Bench.Footprint do
  @moduledoc """
  Measures what sign-ins take of Redis: memory, commands and CPU time, with each index of this package and
  with Pow's backends. All sign-ins are of different users. Then each of them views a page, and half of them
  sign out.
  """

  alias PowRedisCache.{RedisClient, RedisServer}
  alias PowRedisCache.Bench.{Client, Counters, LoadGenerator, Visit}

  @callers 100

  def run(%{sign_ins: sign_ins}) do
    names = Client.indexed_names() ++ (Client.names() -- ["pow_redis_cache", "ets"])
    for name <- names, do: measure(name, div(sign_ins, @callers))
  end

  # Each client has a server of its own.
  defp measure(name, times) do
    server = RedisServer.start!()
    redis_client = RedisClient.connect!(server.port)
    [client] = Client.start([name], server.port, 0, [])
    # Connected.
    :not_found = client.get.("")

    empty = Counters.data_bytes(redis_client)
    sign_in = per_call(&Visit.sign_in(client, &1, &2), times, redis_client)
    full = Counters.data_bytes(redis_client)
    page_view = per_call(&Visit.view_page(client, &1, &2), times, redis_client)
    sign_out = per_call(&Visit.sign_out(client, &1, &2), div(times, 2), redis_client)
    half = Counters.data_bytes(redis_client)

    Client.stop([client])
    RedisClient.close(redis_client)
    RedisServer.stop(server)

    sign_ins = times * @callers

    %{
      client: name,
      sign_ins: sign_ins,
      bytes: (full - empty) / sign_ins,
      bytes_half_signed_out: (half - empty) / sign_ins,
      sign_in: sign_in,
      page_view: page_view,
      sign_out: sign_out
    }
  end

  # The commands and the CPU time of Redis for a call.
  defp per_call(call, times, redis_client) do
    {durations, _duration, costs} =
      LoadGenerator.run(
        @callers,
        {:times, times},
        fn _caller -> nil end,
        fn caller, number, _prepared -> call.(caller, number) end,
        fn -> Counters.read(redis_client) end
      )

    for {name, cost} <- Map.take(costs, [:commands, :redis_cpu_us]),
        into: %{},
        do: {name, cost / length(durations)}
  end
end
