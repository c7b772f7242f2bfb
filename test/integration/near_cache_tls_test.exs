defmodule PowRedisCache.NearCacheTlsTest do
  # What Redis tells of changed keys comes in TLS records of its own, or in those of replies.
  use ExUnit.Case, async: true

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Certificates, Ports, RedisServer, Wait}

  @keys for i <- 1..2_000, do: ["key", i]

  setup do
    port = Ports.free()
    server = RedisServer.start!(Certificates.server_arguments(port))
    on_exit(fn -> RedisServer.stop(server) end)
    options = [url: "rediss://localhost:#{port}", cacertfile: Certificates.path(:ca)]
    # A slow machine makes no difference.
    near = start([near_cache: [max_staleness: 60_000]] ++ options)
    Wait.until(fn -> info(near).tracking end)
    [near: near, other: start(options), server: server]
  end

  test "changes are noticed while nobody calls", %{near: near, other: other} do
    for value <- 1..5 do
      PowRedisCache.put(other, {"key", value})
      Wait.until(fn -> PowRedisCache.get(near, "key") == value end)
      Wait.until(fn -> hit?(near, "key", value) end)
      %{invalidations: invalidations} = info(near)
      PowRedisCache.delete(other, "key")
      Wait.until(fn -> info(near).invalidations > invalidations end)
      assert PowRedisCache.get(near, "key") == :not_found
    end
  end

  test "many changes at once are noticed", %{near: near, other: other} do
    PowRedisCache.put(other, Enum.map(@keys, &{&1, :old}))
    for key <- @keys, do: assert(PowRedisCache.get(near, key) == :old)
    PowRedisCache.put(other, Enum.map(@keys, &{&1, :new}))
    Wait.until(fn -> info(near).invalidations >= length(@keys) end)
    for key <- @keys, do: assert(PowRedisCache.get(near, key) == :new)
  end

  test "a key that Redis evicts is not found", %{near: near, server: server} do
    PowRedisCache.put(near, {"key", 1})
    Wait.until(fn -> hit?(near, "key", 1) end)
    RedisServer.command!(server, ~w(CONFIG SET maxmemory-policy allkeys-random))
    RedisServer.command!(server, ~w(CONFIG SET maxmemory 1))
    Wait.until(fn -> PowRedisCache.get(near, "key") == :not_found end)
  end

  defp start(options) do
    name = unique_name()
    start_supervised!({PowRedisCache, [name: name] ++ options}, id: name)
    Wait.until(fn -> PowRedisCache.ping(name) == :ok end)
    [name: name, ttl: :timer.hours(1), namespace: "credentials"]
  end

  # Whether a read was answered from memory.
  defp hit?(config, key, value) do
    %{hits: hits} = info(config)
    PowRedisCache.get(config, key) == value and info(config).hits > hits
  end

  defp info(config), do: PowRedisCache.info(config[:name]).near_cache
end
