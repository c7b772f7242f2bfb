defmodule PowRedisCache.NearCacheOrderTest do
  # Reads of an instance never go back in time, whichever of its connections they take.
  use PowRedisCache.Case, async: true

  @moduletag :integration
  @moduletag server: [], instance: [name: nil]

  alias PowRedisCache.HoldingProxy

  # Some read is in the hands of the second worker with that probability: 1 - 0.5^16.
  @readers 16

  for {title, read} <- [{"a read", :get}, {"a listing", :all}] do
    test "#{title} that began without a connection is not followed by an older value", context do
      proxy = HoldingProxy.start!(context.server.port)
      near = [namespaces: [context.namespace], max_staleness: 60_000]
      options = [url: HoldingProxy.url(proxy), pool_size: 2, near_cache: near]
      config = start_instance(context, options)
      PowRedisCache.put(config, {["k", 1], "old"})
      {tracking, other, readers} = begin_without_connection(config, proxy, unquote(read))

      # The connection that tracks is late with the news, which the other one knows.
      Wait.until(fn -> hit?(config) end)
      HoldingProxy.hold(proxy, connections: [tracking], direction: :to_client)
      set(context, "new")
      HoldingProxy.pass(proxy, connections: other)
      Wait.until(fn -> Enum.any?(readers, &(read(&1) == "new")) end)
      late = Task.async(fn -> PowRedisCache.get(config, ["k", 1]) end)
      heal(proxy)
      assert Task.await(late, 60_000) == "new"
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
    [first | _] = Wait.until(fn -> two(HoldingProxy.connections(proxy)) end)
    HoldingProxy.pass(proxy, connections: [first])
    Wait.until(fn -> near(config).tracking or Enum.any?(readers, &read/1) end)

    if near(config).tracking and not Enum.all?(readers, &read/1) do
      {first, HoldingProxy.connections(proxy) -- [first], readers}
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

  defp call(config, :get), do: PowRedisCache.get(config, ["k", 1])

  defp call(config, :all) do
    [{["k", 1], value}] = PowRedisCache.all(config, ["k", :_])
    value
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
