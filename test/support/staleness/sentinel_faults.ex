defmodule PowRedisCache.Staleness.SentinelFaults do
  @moduledoc """
  Faults of a primary with replicas that sentinels monitor. The world has the `:sentinels`, the `:names` of
  the instances, and in `:primary`, an `:atomics`, the port of the primary for other clients.
  """

  alias PowRedisCache.{Processes, RedisServer, Sentinels, Staleness, Wait}
  alias PowRedisCache.Staleness.{Faults, Replication}

  import Faults, only: [pause: 1]

  # In milliseconds: no failover on a busy machine, unless a fault asks for one.
  @down_after 60_000
  @outage 50..2_500

  @doc "The faults, by their kind."
  def all do
    [
      failover_by_hand: &fail_over(&1, true),
      failover_by_hand_without_replication: &fail_over(&1, false),
      primary_killed: &kill/1,
      primary_replaced_while_it_hangs: &replace_hanging/1,
      primary_hangs: &hang/1,
      connections_killed: &kill_connections/1,
      flushed: &flush/1
    ]
  end

  # The old primary goes on until the sentinels demote it.
  defp fail_over(world, replicated) do
    replace(world, fn old ->
      replicas = Sentinels.replicas(world.sentinels)
      if not replicated, do: Replication.cut(replicas)
      pause(0..800)
      Wait.until(fn -> ask_for_failover(world) end)
      new = await_new_primary(world, old)
      Replication.heal(replicas)
      use_primary(world, new)
      await_demotion(old)
      world
    end)
  end

  defp kill(world) do
    world
    |> replace(fn old ->
      RedisServer.kill(old)
      down_after(world, 500)
      new = await_new_primary(world, old)
      use_primary(world, new)
      world
    end)
    |> start_again()
  end

  defp replace_hanging(world) do
    replace(world, fn old ->
      RedisServer.pause(old)
      down_after(world, 500)
      new = await_new_primary(world, old)
      use_primary(world, new)
      pause(0..2_000)
      RedisServer.resume(old)
      await_demotion(old)
      world
    end)
  end

  defp hang(world) do
    primary = Sentinels.primary(world.sentinels)
    RedisServer.pause(primary)
    pause(@outage)
    RedisServer.resume(primary)
    world
  end

  defp kill_connections(world) do
    world.sentinels
    |> Sentinels.primary()
    |> RedisServer.command!(["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])

    world
  end

  defp flush(world) do
    Staleness.absence(world.check, Staleness.keys(), :done, fn ->
      world.sentinels |> Sentinels.primary() |> RedisServer.command!(["FLUSHALL"])
    end)

    world
  end

  # Replication is asynchronous: a failover may lose what was written last, but not what was written before
  # the handover.
  defp replace(world, function) do
    old = Sentinels.primary(world.sentinels)

    world =
      Staleness.handover(world.check, :all, true, fn ->
        Replication.await(old, Sentinels.replicas(world.sentinels))
        function.(old)
      end)

    await_settled(world)
    world
  end

  defp ask_for_failover(world) do
    command = ["SENTINEL", "FAILOVER", world.sentinels.group]
    Sentinels.command(world.sentinels, hd(world.sentinels.sentinels), command) == {:ok, "OK"}
  end

  # The time after which sentinels take the primary for down is raised again, so that there is one failover.
  defp await_new_primary(world, old), do: Sentinels.await_new_primary(world.sentinels, old)

  defp down_after(world, milliseconds) do
    for sentinel <- world.sentinels.sentinels do
      setting = [
        "SENTINEL",
        "SET",
        world.sentinels.group,
        "down-after-milliseconds",
        milliseconds
      ]

      {:ok, "OK"} = Sentinels.command(world.sentinels, sentinel, setting)
    end
  end

  defp await_demotion(old) do
    Wait.until(fn -> RedisServer.info(old, "replication", "role") == "slave" end)
  end

  defp await_settled(world) do
    down_after(world, @down_after)
    primary = Sentinels.primary(world.sentinels)
    alive = Enum.filter(world.sentinels.nodes, &Processes.alive?(&1.process))
    if length(alive) == 3, do: Sentinels.await_settled(world.sentinels, primary)
  end

  defp start_again(world) do
    down = Enum.find(world.sentinels.nodes, &(not Processes.alive?(&1.process)))
    node = RedisServer.start_again!(down)
    ExUnit.Callbacks.on_exit(fn -> RedisServer.stop(node) end)
    world = %{world | sentinels: Sentinels.replace(world.sentinels, node)}
    await_settled(world)
    world
  end

  defp use_primary(world, node), do: :atomics.put(world.primary, 1, node.port)
end
