defmodule PowRedisCache.Staleness.StandaloneFaults do
  @moduledoc """
  Faults of a server, and of the network between it and the instances. The world has the `:server`, the
  `:proxies` of the instances, and the `:names` of the instances.
  """

  alias PowRedisCache.{HoldingProxy, RedisServer, Staleness, Wait}
  alias PowRedisCache.Staleness.Faults

  import Faults, only: [pause: 1]

  # Less and more than the time for which values are trusted.
  @outage 50..2_500

  @doc "The faults, by their kind."
  def all do
    [
      connections_cut: &cut/1,
      replies_held: &hold(&1, :to_client),
      requests_held: &hold(&1, :to_server),
      network_held: &hold(&1, :both),
      network_stutters: &stutter/1,
      connections_stutter_apart: &stutter_apart/1,
      delivered_after_the_cut: &deliver_late/1,
      packets_dropped: &drop/1,
      connections_refused: &refuse/1,
      network_slow: &slow/1,
      network_slow_and_silent: &silence_slow/1,
      server_hangs: &hang/1,
      server_pauses_clients: &pause_clients/1,
      connections_killed: &kill_connections(&1, nil),
      tracking_connection_killed: &kill_connections(&1, "t"),
      flushed: &flush/1,
      flushed_during_a_cut: &flush_unheard/1,
      few_keys_tracked: &track_few/1,
      server_restarted: &restart/1,
      server_restarted_empty: &restart_empty/1,
      demoted_by_hand: &demote/1
    ]
  end

  defp cut(world) do
    for proxy <- some(world), do: HoldingProxy.cut(proxy, Enum.random([:client, :server, :both]))
    world
  end

  defp hold(world, direction) do
    proxies = some(world)
    for proxy <- proxies, do: HoldingProxy.hold(proxy, direction: direction)
    pause(@outage)
    heal(proxies)
    world
  end

  # What is held meanwhile arrives in bursts.
  defp stutter(world) do
    proxies = some(world)

    for _ <- 1..20 do
      for proxy <- proxies,
          do: HoldingProxy.hold(proxy, direction: Enum.random([:to_client, :both]))

      pause(10..150)
      for proxy <- proxies, do: HoldingProxy.pass(proxy)
      pause(1..30)
    end

    heal(proxies)
    world
  end

  # Calls that were made without a connection are served by one, while another has not the same news yet.
  defp stutter_apart(world) do
    proxies = some(world)
    for proxy <- proxies, do: HoldingProxy.new_connections(proxy, :refuse)
    for proxy <- proxies, do: HoldingProxy.cut(proxy, :both)
    pause(50..500)

    for _ <- 1..20 do
      for proxy <- proxies do
        HoldingProxy.new_connections(proxy, Enum.random([:hold, :pass, :pass]))

        for number <- HoldingProxy.connections(proxy) do
          options = [connections: [number]]

          case :rand.uniform(3) do
            1 ->
              HoldingProxy.hold(
                proxy,
                [direction: Enum.random([:to_server, :to_client])] ++ options
              )

            _ ->
              HoldingProxy.pass(proxy, options)
          end
        end
      end

      pause(10..100)
    end

    heal(proxies)
    world
  end

  # Redis gets what the instance has sent after the instance has noticed the cut.
  defp deliver_late(world) do
    proxies = some(world)

    for proxy <- proxies,
        do: HoldingProxy.hold(proxy, direction: Enum.random([:to_server, :both]))

    pause(1..300)
    for proxy <- proxies, do: HoldingProxy.cut(proxy, :client)
    pause(1..1_500)
    heal(proxies)
    world
  end

  defp drop(world) do
    proxies = some(world)

    for proxy <- proxies do
      HoldingProxy.new_connections(proxy, :drop)
      HoldingProxy.drop(proxy)
    end

    pause(@outage)
    # What was dropped is not delivered later.
    for proxy <- proxies do
      HoldingProxy.new_connections(proxy, :pass)
      HoldingProxy.cut(proxy, :both)
    end

    world
  end

  defp refuse(world) do
    proxies = some(world)

    for proxy <- proxies do
      HoldingProxy.new_connections(proxy, Enum.random([:refuse, :hold]))
      HoldingProxy.cut(proxy, :both)
    end

    pause(@outage)
    heal(proxies)
    world
  end

  defp slow(world) do
    proxies = some(world)
    for proxy <- proxies, do: HoldingProxy.delay(proxy, Enum.random([5, 50, 200, 400, 600]))
    pause(1_000..3_000)
    heal(proxies)
    world
  end

  # What arrived last was sent long before.
  defp silence_slow(world) do
    proxies = some(world)
    for proxy <- proxies, do: HoldingProxy.delay(proxy, Enum.random(300..900))
    pause(2_000..3_000)
    for proxy <- proxies, do: HoldingProxy.hold(proxy, direction: :to_client)
    pause(1_500..2_000)
    heal(proxies)
    world
  end

  defp hang(world) do
    RedisServer.pause(world.server)
    pause(@outage)
    RedisServer.resume(world.server)
    world
  end

  defp pause_clients(world) do
    time = Enum.random(@outage)
    RedisServer.command!(world.server, ["CLIENT", "PAUSE", time, Enum.random(["ALL", "WRITE"])])
    Process.sleep(time)
    world
  end

  # All connections, or those with a flag: `t` for those that track.
  defp kill_connections(world, nil) do
    RedisServer.command!(world.server, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
    world
  end

  defp kill_connections(world, flag) do
    list = RedisServer.command!(world.server, ["CLIENT", "LIST"])

    for [_line, id, flags] <- Regex.scan(~r/^id=(\d+) .* flags=(\S+)/m, list), flags =~ flag do
      # It may have ended.
      RedisServer.command(world.server, ["CLIENT", "KILL", "ID", id])
    end

    world
  end

  defp flush(world) do
    absent(world, fn ->
      RedisServer.command!(world.server, [Enum.random(["FLUSHALL", "FLUSHDB"])])
    end)

    world
  end

  defp flush_unheard(world) do
    proxies = some(world)
    for proxy <- proxies, do: HoldingProxy.hold(proxy, direction: :to_client)
    flush(world)
    pause(@outage)
    heal(proxies)
    world
  end

  defp track_few(world) do
    setting = ["CONFIG", "SET", "tracking-table-max-keys"]
    RedisServer.command!(world.server, setting ++ [Enum.random(1..10)])
    pause(500..2_000)
    RedisServer.command!(world.server, setting ++ [1_000_000])
    world
  end

  # Its writes are on disk before they are acknowledged.
  defp restart(world) do
    RedisServer.kill(world.server)
    pause(0..1_500)
    %{world | server: start_again(world.server)}
  end

  defp restart_empty(world) do
    server =
      absent(world, fn ->
        RedisServer.kill(world.server)

        for file <- File.ls!(world.server.folder),
            do: File.rm_rf!(Path.join(world.server.folder, file))

        start_again(world.server)
      end)

    %{world | server: server}
  end

  # The server becomes a replica of an empty one, and then a primary again.
  defp demote(world) do
    other = RedisServer.start!()

    Staleness.handover(world.check, :all, true, fn ->
      absent(world, :unknown, fn ->
        RedisServer.command!(world.server, ["REPLICAOF", "127.0.0.1", other.port])
        pause(0..2_000)

        Wait.until(fn ->
          RedisServer.info(world.server, "replication", "master_link_status") == "up"
        end)

        pause(0..500)
        RedisServer.command!(world.server, ["REPLICAOF", "NO", "ONE"])
      end)
    end)

    RedisServer.stop(other)
    world
  end

  defp absent(world, outcome \\ :done, function),
    do: Staleness.absence(world.check, Staleness.keys(), outcome, function)

  defp start_again(server) do
    server = RedisServer.start_again!(server)
    ExUnit.Callbacks.on_exit(fn -> RedisServer.stop(server) end)
    server
  end

  defp heal(proxies), do: Enum.each(proxies, &HoldingProxy.heal/1)

  defp some(world) do
    Enum.take_random(world.proxies, :rand.uniform(length(world.proxies)))
  end
end
