defmodule PowRedisCache.NearCacheOrderTest do
  # Reads of an instance never go back in time, whichever of its connections they take.
  use PowRedisCache.Case, async: true

  @moduletag :integration
  # Which worker connects first and takes a read is random: it may take many tries on a busy machine. Run it with
  # `--include chance`.
  @moduletag :chance
  @moduletag server: [], instance: [name: nil]

  alias PowRedisCache.HoldingProxy

  @readers 16

  for {title, read} <- [{"a read", :get}, {"a listing", :all}] do
    test "#{title} that began without a connection is not followed by an older value", context do
      proxy = HoldingProxy.start!(context.server.port)
      near = [namespaces: [context.namespace], max_staleness: 60_000]
      options = [url: HoldingProxy.url(proxy), pool_size: 2, near_cache: near]
      config = start_instance(context, options)
      be_overtaken(context, config, proxy, unquote(read))
      late = Task.async(fn -> PowRedisCache.get(config, ["k", 1]) end)
      heal(proxy)
      assert Task.await(late, 60_000) == "new"
    end
  end

  # The connection that tracks is late with the news, which a read over the other one has. Which worker takes a
  # read is random, so this is repeated until the other one has taken one.
  defp be_overtaken(context, config, proxy, read) do
    PowRedisCache.put(config, {["k", 1], "old"})
    {tracking, readers} = begin_without_connection(config, proxy, read)
    Wait.until(fn -> hit?(config) end)
    HoldingProxy.hold(proxy, connections: [tracking], direction: :to_client)
    set(context, "new")

    Wait.until(fn ->
      HoldingProxy.pass(proxy, connections: HoldingProxy.connections(proxy) -- [tracking])
      Enum.any?(readers, &(read(&1) == "new")) or Enum.all?(readers, &read/1)
    end)

    unless Enum.any?(readers, &(read(&1) == "new")) do
      heal(proxy)
      be_overtaken(context, config, proxy, read)
    end
  end

  # Calls while no worker is connected. Then the first worker connects, whose connection tracks, and the
  # second one has calls but no connection. Which one takes a call, and which one connects first, is random.
  defp begin_without_connection(config, proxy, read) do
    HoldingProxy.new_connections(proxy, :refuse)
    HoldingProxy.cut(proxy, :both)
    Wait.until(fn -> not near(config).tracking end)
    readers = for _ <- 1..@readers, do: reader(config, read)
    HoldingProxy.new_connections(proxy, :hold)

    # Attempts to connect end, and others follow.
    first =
      Wait.until(fn ->
        [first | _] = Wait.until(fn -> two(HoldingProxy.connections(proxy)) end)
        HoldingProxy.pass(proxy, connections: [first])
        if near(config).tracking or Enum.any?(readers, &read/1), do: first
      end)

    if near(config).tracking and not Enum.all?(readers, &read/1) do
      {first, readers}
    else
      heal(proxy)
      Wait.until(fn -> near(config).tracking and Enum.all?(readers, &read/1) end)
      begin_without_connection(config, proxy, read)
    end
  end

  defp two(connections), do: if(length(connections) >= 2, do: connections)

  # A process that reads, and what it has read.
  defp reader(config, read) do
    table = :ets.new(:read, [:public])
    spawn_link(fn -> :ets.insert(table, {:read, call(config, read)}) end)
    table
  end

  defp call(config, read) do
    case read do
      :get -> PowRedisCache.get(config, ["k", 1])
      :all -> config |> PowRedisCache.all(["k", :_]) |> List.first() |> elem(1)
    end
  rescue
    PowRedisCache.Error -> :failed
  end

  defp read(reader) do
    with [{:read, value}] <- :ets.lookup(reader, :read), do: value, else: ([] -> nil)
  end

  defp hit?(config) do
    before = near(config).hits
    "old" = PowRedisCache.get(config, ["k", 1])
    near(config).hits > before
  end

  defp near(config), do: PowRedisCache.info(config[:name]).near_cache

  defp set(context, value) do
    path = PowGuideStore.path(%PowGuideStore{}, [context.namespace, "k", 1])
    "OK" = RedisClient.command!(context.client, ["SET", path, :erlang.term_to_binary(value)])
  end

  defp heal(proxy), do: HoldingProxy.heal(proxy)
end
