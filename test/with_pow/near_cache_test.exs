defmodule PowRedisCache.NearCacheWithPowTest do
  # Pages of Pow's apps, on two nodes. With Pow, or where it is not available, with stand-ins.
  use PowRedisCache.Case, async: true

  alias PowRedisCache.{PowDevice, Sessions}
  alias PowRedisCache.PowDevice.Users

  defmodule Here do
    use PowRedisCache
  end

  defmodule There do
    use PowRedisCache
  end

  @moduletag :integration
  # Of its own, since the namespaces are Pow's.
  @moduletag server: [], instance: [name: nil]

  setup %{server: server} do
    for node <- [Here, There] do
      # A slow machine makes no difference.
      near_cache = [max_staleness: 60_000]
      start_supervised!({node, url: RedisServer.url(server), near_cache: near_cache})
      Wait.until(fn -> node.info().near_cache.tracking end)
    end

    [user: Users.get_by(id: 1)]
  end

  test "a page makes no call", %{user: user} do
    device = PowDevice.log_in(PowDevice.new(cache_store_backend: Here), user, keep: true)

    for node <- [Here, There] do
      device = on(device, node)
      # Reads session and user once.
      Wait.until(fn -> calls(node, fn -> assert {^user, _} = PowDevice.visit(device) end) == 0 end)

      for _ <- 1..10, do: assert(calls(node, fn -> PowDevice.visit(device) end) == 0)
    end
  end

  test "a session that is logged out on another node is logged out", %{user: user} do
    device = PowDevice.log_in(PowDevice.new(cache_store_backend: Here), user)

    for node <- [Here, There, Here, There],
        do: assert({^user, _} = PowDevice.visit(on(device, node)))

    device |> on(There) |> PowDevice.log_out()
    assert {nil, _device} = PowDevice.visit(on(device, There))
    Wait.until(fn -> match?({nil, _device}, PowDevice.visit(on(device, Here))) end)
  end

  test "a user who is logged out everywhere is logged out on all nodes", %{user: user} do
    devices =
      for node <- [Here, There, Here] do
        device = PowDevice.log_in(PowDevice.new(cache_store_backend: node), user)
        for node <- [Here, There, Here, There], do: PowDevice.visit(on(device, node))
        device
      end

    Sessions.log_out_everywhere(user, on(hd(devices), Here).config)

    for device <- devices, node <- [Here, There] do
      Wait.until(fn -> match?({nil, _device}, PowDevice.visit(on(device, node))) end)
    end
  end

  test "a token of a persistent session is used once, on whichever node", %{user: user} do
    device = PowDevice.log_in(PowDevice.new(cache_store_backend: Here), user, keep: true)
    stolen = PowDevice.without_session(device)
    assert {^user, _device} = PowDevice.visit(on(stolen, There))
    for node <- [Here, There], do: assert({nil, _device} = PowDevice.visit(on(stolen, node)))
  end

  defp on(device, node),
    do: %{device | config: Keyword.put(device.config, :cache_store_backend, node)}

  defp calls(node, function) do
    before = node.info().calls
    function.()
    node.info().calls - before
  end
end
