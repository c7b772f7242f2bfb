defmodule PowRedisCache.IdleTest do
  # Idle connections.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  import ExUnit.CaptureLog

  @moduletag server: ["--timeout", "1"], instance: [name: nil]

  # This Redis closes connections after one idle second, Heroku's after five minutes.
  test "connections closed by the server are reopened without an error or a warning", context do
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

    # Other tests log at the same time.
    assert_received name
    refute log =~ "#{inspect(name)}:"
  end

  # The lines of CLIENT LIST, except that of the client that requests it.
  defp clients(context) do
    client = RedisClient.connect!(context.server.port)
    list = RedisClient.command!(client, ["CLIENT", "LIST", "TYPE", "NORMAL"])
    own = RedisClient.command!(client, ["CLIENT", "ID"])
    RedisClient.close(client)

    for line <- String.split(list, "\n", trim: true), not (line =~ ~r/^id=#{own} /), do: line
  end
end
