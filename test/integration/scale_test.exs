defmodule PowRedisCache.ScaleTest do
  # Many keys.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  @moduletag server: []

  @keys 100_000

  defp put_many(config, records) do
    records |> Stream.chunk_every(5_000) |> Enum.each(&PowRedisCache.put(config, &1))
  end

  defp sessions(users), do: for(u <- users, do: {[MyApp.User, :user, u, :session, "s#{u}"], u})

  # The commands that a call sends. A worker may connect or ask for the time just then.
  defp counts(client, call) do
    before = RedisClient.command_counts(client)
    result = call.()
    later = client |> RedisClient.command_counts() |> Map.drop(["info", "time"])
    sent = for {name, calls} <- later, n = calls - Map.get(before, name, 0), n > 0, do: {name, n}
    {result, Map.new(sent)}
  end

  test "the sessions of a user take two rounds, whatever else is there", context do
    %{config: config, client: client} = context
    mine = for s <- ["a", "b", "c"], do: {[MyApp.User, :user, 0, :session, s], 1}
    PowRedisCache.put(config, mine)
    match = [MyApp.User, :user, 0, :session, :_]
    ask = fn -> PowRedisCache.all(config, match) end

    {^mine, alone} = counts(client, ask)
    # By an instance that looks after the index when it ends, not while we count.
    other = start_instance(context, [])
    put_many(other, sessions(1..@keys))
    :ok = stop_supervised(other[:name])
    batches = PowRedisCache.info(config[:name]).batches
    {^mine, among_many} = counts(client, ask)

    # The index set in both forms of atoms, then the values.
    assert alone == %{"zscan" => 2, "get" => 3}
    assert among_many == alone
    assert PowRedisCache.info(config[:name]).batches == batches + 2
  end

  test "all keys are answered as :ets does", %{config: config, namespace: namespace} do
    records = sessions(1..@keys) ++ for(u <- 1..@keys//100, do: {[MyApp.User, :user, u], u})
    put_many(config, records)

    for match <- [
          [MyApp.User, :user, :_, :session, :_],
          [MyApp.User, :user, :_],
          [:_, :user, 77, :_, :"$1"]
        ] do
      assert PowRedisCache.all(config, match) == ets_all(namespace, records, match)
    end
  end
end
