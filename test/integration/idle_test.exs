defmodule PowRedisCache.IdleTest do
  # Connections on which nothing happens.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  import ExUnit.CaptureLog

  @moduletag server: ["--timeout", "1"], instance: [name: nil]

  # Redis closes connections that were idle for a second; Heroku's do after five minutes.
  test "that the server closes are opened again without an error or a warning", context do
    log =
      capture_log(fn ->
        config = start_instance(context, pool_size: 1)
        send(self(), config[:name])
        PowRedisCache.put(config, {"key", 1})
        before = PowRedisCache.info(config[:name])

        for closed <- 1..2 do
          Wait.until(fn -> clients(context) == [] end)
          assert PowRedisCache.get(config, "key") == 1
          info = PowRedisCache.info(config[:name])
          assert info.reconnects == before.reconnects + closed
          assert info.retries == before.retries + closed
        end
      end)

    # Other tests write to the same log.
    assert_received name
    refute log =~ "#{inspect(name)}:"
  end

  # A line for each client of the server but the one that asks.
  defp clients(context) do
    asking = RedisClient.connect!(context.server.port)
    list = RedisClient.command!(asking, ["CLIENT", "LIST", "TYPE", "NORMAL"])
    own = RedisClient.command!(asking, ["CLIENT", "ID"])
    RedisClient.close(asking)

    for line <- String.split(list, "\n", trim: true), not (line =~ ~r/^id=#{own} /), do: line
  end
end
