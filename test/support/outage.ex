defmodule PowRedisCache.Outage do
  @moduledoc "Outages of a Redis server behind a `PowRedisCache.HoldingProxy`, in a test."

  import ExUnit.Callbacks, only: [on_exit: 1]

  alias PowRedisCache.{HoldingProxy, RedisServer}

  @doc """
  Begins an outage. Returns a function that ends it, and returns the server.

    * `:kill` - the server ends, and is started again;
    * `:suspend` - the server hangs;
    * `:refuse` - connections are closed, and new ones refused;
    * `:drop` - packets are dropped, and connections with gaps do not work again;
    * `:hold` - nothing is delivered, until the end of the outage.
  """
  def begin(:kill, server, _proxy) do
    RedisServer.kill(server)

    fn ->
      server = RedisServer.start_again!(server)
      on_exit(fn -> RedisServer.stop(server) end)
      server
    end
  end

  def begin(:suspend, server, _proxy) do
    RedisServer.pause(server)
    ending(server, fn -> RedisServer.resume(server) end)
  end

  def begin(:refuse, server, proxy) do
    HoldingProxy.new_connections(proxy, :refuse)
    HoldingProxy.cut(proxy, :both)
    ending(server, fn -> HoldingProxy.heal(proxy) end)
  end

  def begin(:drop, server, proxy) do
    HoldingProxy.new_connections(proxy, :drop)
    HoldingProxy.drop(proxy)
    # What was dropped is not delivered later.
    ending(server, fn -> HoldingProxy.new_connections(proxy, :pass) end)
  end

  def begin(:hold, server, proxy) do
    HoldingProxy.new_connections(proxy, :hold)
    HoldingProxy.hold(proxy)
    ending(server, fn -> HoldingProxy.heal(proxy) end)
  end

  defp ending(server, repair) do
    fn ->
      repair.()
      server
    end
  end
end
