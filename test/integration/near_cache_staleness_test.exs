defmodule PowRedisCache.NearCacheStalenessTest do
  # Instances with a near cache serve no value longer than they guarantee, whatever happens to Redis and to
  # the network. The guarantee is in the guide on reliability.
  use ExUnit.Case, async: false

  @moduletag :integration
  @moduletag timeout: 3_600_000

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Cases, Cluster, HoldingProxy, RedisServer, Sentinels, Staleness, Wait}

  alias PowRedisCache.Staleness.{
    ClusterFaults,
    Faults,
    Raw,
    Report,
    SentinelFaults,
    StandaloneFaults
  }

  # Of the instances, in milliseconds. One that hears nothing for half of it reconnects: for some, before
  # values are not trusted any more, for others, later.
  @timeouts [2_000, 5_000, 10_000]
  # In milliseconds.
  @max_staleness 1_000
  @at_once 250

  setup do
    :rand.seed(:exsss, {ExUnit.configuration()[:seed], 17, 19})
    [namespace: "staleness#{System.unique_integer([:positive])}"]
  end

  test "with a single server", %{namespace: namespace} do
    server = RedisServer.start!(RedisServer.durable())
    on_exit(fn -> RedisServer.stop(server) end)
    proxies = for _ <- @timeouts, do: HoldingProxy.start!(server.port)
    names = start(namespace, for(proxy <- proxies, do: [url: HoldingProxy.url(proxy)]))
    raw = Raw.new(fn -> [server.port] end)
    world = %{names: names, server: server, proxies: proxies}
    check(world, StandaloneFaults.all(), namespace, raw, "single server")
  end

  test "with sentinels", %{namespace: namespace} do
    sentinels = Sentinels.start!()
    on_exit(fn -> Sentinels.stop(sentinels) end)
    options = [sentinels: Sentinels.urls(sentinels), group: sentinels.group]
    names = start(namespace, for(_ <- @timeouts, do: [sentinel: options]))
    primary = :atomics.new(1, [])
    :atomics.put(primary, 1, Sentinels.primary(sentinels).port)
    raw = Raw.new(fn -> [:atomics.get(primary, 1)] end)
    world = %{names: names, sentinels: sentinels, primary: primary}
    check(world, SentinelFaults.all(), namespace, raw, "sentinels")
  end

  test "with a cluster", %{namespace: namespace} do
    cluster = Cluster.start!()
    on_exit(fn -> Cluster.stop(cluster) end)
    urls = Cluster.urls(cluster)
    names = start(namespace, for(_ <- @timeouts, do: [cluster: urls]))
    hanging = :atomics.new(1, [])
    ports = for node <- cluster.nodes, do: node.port
    raw = Raw.new(fn -> ports -- [:atomics.get(hanging, 1)] end)
    slot = &Cluster.slot(cluster, Staleness.redis_key(namespace, &1))
    slots = Enum.group_by(Staleness.keys(), slot)
    world = %{names: names, cluster: cluster, slots: slots, hanging: hanging}
    check(world, ClusterFaults.all(), namespace, raw, "cluster")
  end

  defp check(%{names: names} = world, faults, namespace, raw, title) do
    for name <- names, do: Wait.until(fn -> PowRedisCache.ping(name) == :ok end)

    instances =
      for {name, number} <- Enum.with_index(names),
          do: Staleness.instance(number, name: name, namespace: namespace)

    check = Staleness.start(instances: instances, raw: raw, namespace: namespace)
    world |> Map.put(:check, check) |> Faults.run(faults, seconds())
    entries = Staleness.stop(check)
    verdict = Staleness.judge(entries, @max_staleness)
    Report.print(verdict, entries, title, usage(names))
    assert verdict.violations == [], Report.describe(verdict.violations, entries)
    assert verdict.reads > 100
    assert verdict.replaced > 10
    # Redis tells at once what has been replaced, unless the machine is busy.
    slow = verdict |> Report.without_fault(entries) |> Enum.count(&(&1 > @at_once))
    assert slow <= verdict.replaced / 10
  end

  # For each test.
  defp seconds do
    cond do
      seconds = System.get_env("POW_REDIS_CACHE_STALENESS_SECONDS") -> String.to_integer(seconds)
      System.get_env("POW_REDIS_CACHE_LONG") -> 200
      true -> max(Cases.count(20), 5)
    end
  end

  # A check of instances that never read from memory would prove nothing.
  defp usage(names) do
    near = for name <- names, do: PowRedisCache.info(name).near_cache
    counts = for count <- [:hits, :misses, :invalidations], do: {count, sum(near, count)}
    ends = near |> Enum.map(& &1.ends) |> Enum.reduce(&Map.merge(&1, &2, fn _, a, b -> a + b end))
    for {count, number} <- counts, do: assert(number > 0, "no #{count}")
    "#{inspect(counts)}, ends #{inspect(ends)}"
  end

  defp sum(near, count), do: near |> Enum.map(&Map.fetch!(&1, count)) |> Enum.sum()

  defp start(namespace, instances) do
    near = [namespaces: [namespace], max_staleness: @max_staleness]

    for {options, timeout} <- Enum.zip(instances, @timeouts) do
      name = unique_name()
      options = [name: name, timeout: timeout, index: true, near_cache: near] ++ options
      start_supervised!({PowRedisCache, options}, id: name)
      name
    end
  end
end
