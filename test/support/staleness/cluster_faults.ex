defmodule PowRedisCache.Staleness.ClusterFaults do
  @moduledoc """
  Faults of a Redis Cluster. The world has the `:cluster`, the `:names` of the instances, and in `:hanging`,
  an `:atomics`, the port of a node that other clients do not ask.
  """

  alias PowRedisCache.{Cluster, RedisServer, Staleness, Wait}
  alias PowRedisCache.Staleness.{Faults, Replication}

  import Faults, only: [pause: 1]

  @outage 50..2_500

  @doc "The faults, by their kind."
  def all do
    [
      slot_moved: &move_slot/1,
      slot_claimed: &claim_slot/1,
      slot_claimed_and_claimed_back: &claim_slot_twice/1,
      failover: &fail_over/1,
      takeover_without_replication: &take_over/1,
      takeover_and_back: &take_over_twice/1,
      takeover_while_the_primary_hangs: &take_over_hanging/1,
      takeover_before_the_primary_ends: &take_over_hung/1,
      takeover_after_a_kill: &take_over_killed/1,
      node_hangs: &hang/1,
      connections_killed: &kill_connections/1,
      flushed: &flush/1,
      node_restarted_empty: &restart_empty/1
    ]
  end

  defp move_slot(world) do
    {slot, _keys} = any_slot(world)
    {_source, target} = source_and_target(world, slot)
    Cluster.move_slot(world.cluster, slot, target, fn -> pause(0..800) end)
    world
  end

  # Another node takes the slot without its keys. The owner deletes them when it hears of it.
  defp claim_slot(world) do
    {slot, keys} = any_slot(world)
    {_source, target} = source_and_target(world, slot)
    lose(world, keys, fn -> claim(world, slot, target) end)
  end

  # Afterwards nothing is different, except that the keys are gone.
  defp claim_slot_twice(world) do
    {slot, keys} = any_slot(world)
    {source, target} = source_and_target(world, slot)

    lose(world, keys, fn ->
      claim(world, slot, target)
      pause(0..100)
      claim(world, slot, source)
    end)
  end

  defp claim(world, slot, node) do
    id = RedisServer.command!(node, ["CLUSTER", "MYID"])
    "OK" = RedisServer.command!(node, ["CLUSTER", "SETSLOT", slot, "NODE", id])
    RedisServer.command!(node, ["CLUSTER", "BUMPEPOCH"])
    await_owner(world.cluster.nodes, [slot], node.port)
  end

  defp lose(world, keys, function) do
    Staleness.handover(world.check, keys, true, fn ->
      Staleness.absence(world.check, keys, :unknown, function)
    end)

    world
  end

  # The primary pauses writes until its replica has all keys. Redis may give up a failover, or undo it.
  defp fail_over(world) do
    {primary, replica, keys, slots} = pair(world)

    Staleness.handover(world.check, keys, &(&1 > 1), fn ->
      tries = fail_over(world, primary, replica, 1)
      await_takeover(world, primary, replica, slots)
      tries
    end)

    settle(world, primary)
  end

  # Returns the number of tries.
  defp fail_over(world, primary, replica, try_number) do
    await_agreement(world)
    RedisServer.command!(replica, ["CLUSTER", "FAILOVER"])
    # Redis gives up after five seconds.
    deadline = System.monotonic_time(:millisecond) + 10_000
    replaced? = fn -> role(replica) == "master" and role(primary) == "slave" end
    Wait.until(fn -> replaced?.() or System.monotonic_time(:millisecond) > deadline end)

    if replaced?.(),
      do: try_number,
      else: fail_over(world, primary, replica, try_number + 1)
  end

  defp take_over(world) do
    {primary, _replica} =
      replace(world, fn primary, replica, slots ->
        Replication.cut([replica])
        pause(0..1_500)
        take_slots(replica)
        Replication.heal([replica])
        await_takeover(world, primary, replica, slots)
      end)

    settle(world, primary)
  end

  # The old primary becomes a replica for a moment.
  defp take_over_twice(world) do
    {_primary, replica} =
      replace(world, fn primary, replica, slots ->
        take_slots(replica)
        await_takeover(world, primary, replica, slots)
        pause(0..300)
        take_slots(primary)
        await_takeover(world, replica, primary, slots)
      end)

    settle(world, replica)
  end

  defp take_over_hanging(world) do
    {primary, _replica} =
      replace(world, fn primary, replica, slots ->
        RedisServer.pause(primary)
        pause(0..1_500)
        take_slots(replica)
        pause(0..2_500)
        RedisServer.resume(primary)
        await_takeover(world, primary, replica, slots)
      end)

    settle(world, primary)
  end

  # The old primary tells nothing of what the new one takes. Other clients do not wait for it.
  defp take_over_hung(world) do
    {primary, _replica} =
      replace(world, fn primary, replica, slots ->
        :atomics.put(world.hanging, 1, primary.port)
        RedisServer.pause(primary)
        take_slots(replica)
        others = Enum.reject(world.cluster.nodes, &(&1.port == primary.port))
        await_owner(others, slots, replica.port)
      end)

    pause(1_000..4_000)
    RedisServer.kill(primary)
    world = start_again(world, primary)
    :atomics.put(world.hanging, 1, 0)
    settle(world, primary)
  end

  defp take_over_killed(world) do
    {primary, _replica} =
      replace(world, fn primary, replica, slots ->
        RedisServer.kill(primary)
        pause(0..500)
        take_slots(replica)
        await_owner(world.cluster.nodes, slots, replica.port)
      end)

    pause(0..1_500)
    world |> start_again(primary) |> settle(primary)
  end

  # Replication is asynchronous: a takeover may lose what was written last, but not what was written before
  # the handover. Returns the old primary and the replica.
  defp replace(world, function) do
    {primary, replica, keys, slots} = pair(world)

    Staleness.handover(world.check, keys, true, fn ->
      Replication.await(primary, [replica])
      function.(primary, replica, slots)
    end)

    {primary, replica}
  end

  # Without asking the other nodes.
  defp take_slots(replica) do
    "OK" = RedisServer.command!(replica, ["CLUSTER", "FAILOVER", "TAKEOVER"])
  end

  defp hang(world) do
    node = Enum.random(Cluster.primaries(world.cluster))
    RedisServer.pause(node)
    pause(@outage)
    RedisServer.resume(node)
    world
  end

  defp kill_connections(world) do
    primaries = Cluster.primaries(world.cluster)

    for node <- Enum.take_random(primaries, Enum.random([1, 3])),
        do: RedisServer.command!(node, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])

    world
  end

  defp flush(world) do
    Staleness.absence(world.check, Staleness.keys(), :done, fn ->
      for node <- Cluster.primaries(world.cluster), do: RedisServer.command!(node, ["FLUSHALL"])
    end)

    world
  end

  # Without replacement by its replica, which loses the keys with it.
  defp restart_empty(world) do
    {primary, _replica, keys, _slots} = pair(world)

    world =
      Staleness.absence(world.check, keys, :done, fn ->
        RedisServer.kill(primary)
        start_again(world, primary)
      end)

    Wait.until(fn -> RedisServer.info(primary, "replication", "connected_slaves") == "1" end)
    world
  end

  # A primary with keys, its replica, these keys, and their slots.
  defp pair(world) do
    await_agreement(world)
    primary = Enum.random(Cluster.primaries(world.cluster))
    replica = Cluster.replica(world.cluster, primary)

    owned =
      for {slot, keys} <- world.slots,
          Cluster.owner(world.cluster, slot).port == primary.port,
          do: {slot, keys}

    {primary, replica, Enum.flat_map(owned, &elem(&1, 1)), Enum.map(owned, &elem(&1, 0))}
  end

  defp any_slot(world), do: Enum.random(world.slots)

  defp source_and_target(world, slot) do
    await_agreement(world)
    source = Cluster.owner(world.cluster, slot)
    others = Enum.reject(Cluster.primaries(world.cluster), &(&1.port == source.port))
    {source, Enum.random(others)}
  end

  # Until all nodes serve their slots, which a restarted one does after two seconds, and know the last epoch.
  # Otherwise two may begin the same one, and one loses what it took over.
  defp await_agreement(world) do
    Cluster.await_ok(world.cluster)

    Wait.until(fn ->
      epochs =
        for node <- world.cluster.nodes,
            do: RedisServer.info_of(node, ["CLUSTER", "INFO"], "cluster_current_epoch")

      match?([epoch] when epoch != nil, Enum.uniq(epochs))
    end)
  end

  defp role(node), do: RedisServer.info(node, "replication", "role")

  # Until the old primary and all others know of the new one.
  defp await_takeover(world, primary, replica, slots) do
    Wait.until(fn -> role(primary) == "slave" end)
    await_owner(world.cluster.nodes, slots, replica.port)
  end

  defp await_owner(nodes, slots, port) do
    Wait.until(fn ->
      Enum.all?(nodes, fn node ->
        with {:ok, ranges} <- RedisServer.command(node, ["CLUSTER", "SLOTS"]) do
          Enum.all?(slots, &(owner(ranges, &1) == port))
        else
          # A node that is down does not count.
          {:error, _reason} -> true
        end
      end)
    end)
  end

  defp owner(ranges, slot) do
    Enum.find_value(ranges, fn [from, to, [_host, port | _] | _] ->
      if slot in from..to, do: port
    end)
  end

  # Until every primary has its replica again.
  defp settle(world, old) do
    Wait.until(fn -> RedisServer.info(old, "replication", "master_link_status") == "up" end)
    Wait.until(fn -> length(Cluster.primaries(world.cluster)) == 3 end)
    world
  end

  # Empty. With keys of slots that other nodes have got, the node would claim to import these slots.
  defp start_again(world, node) do
    File.rm_rf!(Path.join(node.folder, "dump.rdb"))
    node = RedisServer.start_again!(node)
    ExUnit.Callbacks.on_exit(fn -> RedisServer.stop(node) end)
    %{world | cluster: Cluster.replace(world.cluster, node)}
  end
end
