defmodule PowRedisCache.RedisAwayWithPowTest do
  # Requests through Pow's plugs while Redis is away.
  use PowRedisCache.Case, async: true

  alias PowRedisCache.{Error, PowDevice, SchedulerStalls}
  alias PowRedisCache.PowDevice.Users

  defmodule Raises do
    use PowRedisCache
  end

  defmodule Misses do
    use PowRedisCache
  end

  @moduletag :integration
  @moduletag server: [], instance: [name: nil]

  @timeout 2_000
  # Requests may end this many milliseconds later than they should, without stalls of the machine.
  @grace 1_000

  for {backend, on_error, expected} <- [{Raises, :raise, {:error, 503}}, {Misses, :miss, nil}] do
    test "a request with a session and a token waits once with on_error: #{on_error}", context do
      %{server: server} = context
      backend = unquote(backend)
      options = [url: RedisServer.url(server), timeout: @timeout, on_error: unquote(on_error)]
      start_supervised!({backend, options})
      user = Users.get_by(id: 1)
      device = PowDevice.log_in(PowDevice.new(cache_store_backend: backend), user, keep: true)
      assert {^user, device} = PowDevice.visit(device)

      RedisServer.pause(server)
      {outcome, took} = SchedulerStalls.time(fn -> user_of(device) end)
      assert outcome == unquote(expected)
      assert took <= @timeout + @grace

      RedisServer.resume(server)
      Wait.until(fn -> backend.ping() == :ok end)
      assert user_of(device) == user
    end
  end

  defp user_of(device) do
    {user, _device} = PowDevice.visit(device)
    user
  rescue
    error in Error -> {:error, error.plug_status}
  end
end
