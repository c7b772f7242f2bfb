defmodule PowRedisCache.ScaleTest do
  # A large number of keys.
  use PowRedisCache.Case, async: true

  alias PowRedisCache.Commands

  @moduletag :integration
  @moduletag server: []

  @keys 100_000

  defp put_many(config, records) do
    records |> Stream.chunk_every(5_000) |> Enum.each(&PowRedisCache.put(config, &1))
  end

  defp sessions(users), do: for(u <- users, do: {[MyApp.User, :user, u, :session, "s#{u}"], u})

  # The commands of a call that take a key: a worker may connect, log in or read the clock meanwhile.
  defp counts(client, call) do
    before = RedisClient.command_counts(client)
    result = call.()
    later = RedisClient.command_counts(client)

    sent =
      for name <- Enum.map(Commands.with_keys(), &String.downcase/1),
          n = Map.get(later, name, 0) - Map.get(before, name, 0),
          n > 0,
          do: {name, n}

    {result, Map.new(sent)}
  end

  test "listing a user's sessions takes two batches among any number of keys", context do
    %{config: config, client: client} = context
    mine = for s <- ["a", "b", "c"], do: {[MyApp.User, :user, 0, :session, s], 1}
    PowRedisCache.put(config, mine)
    match = [MyApp.User, :user, 0, :session, :_]
    list = fn -> PowRedisCache.all(config, match) end

    {^mine, alone} = counts(client, list)
    put_many(start_instance(context, []), sessions(1..@keys))
    batches = PowRedisCache.info(config[:name]).batches
    {^mine, among_many} = counts(client, list)

    # The current and the legacy index set, then the values.
    assert alone == %{"zscan" => 2, "get" => 3}
    assert among_many == alone
    assert PowRedisCache.info(config[:name]).batches == batches + 2
  end

  test "all/2 matches like :ets among 100,000 keys", %{config: config, namespace: namespace} do
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
