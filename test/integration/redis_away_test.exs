defmodule PowRedisCache.RedisAwayTest do
  # How long a process waits that makes several calls while Redis is away, as a request does.
  use PowRedisCache.Case, async: true

  @moduletag :integration
  @moduletag :standalone

  alias PowRedisCache.{Error, HoldingProxy, Outage, SchedulerStalls}

  @timeout 2_000
  # Calls may end this many milliseconds later than they should, without stalls of the machine.
  @grace 1_000
  # For so many milliseconds after a call, workers try to connect often, and other calls do not wait.
  @demand 2_000

  @moduletag server: [], instance: [name: nil]

  for kind <- [:kill, :refuse, :suspend, :hold] do
    test "#{kind}: only one call of a process waits", context do
      proxy = HoldingProxy.start!(context.server.port)
      raises = start_at(proxy, context, on_error: :raise, pool_size: 1)
      misses = start_at(proxy, context, on_error: :miss, pool_size: 3)
      Wait.until(fn -> length(HoldingProxy.connections(proxy)) == 4 end)
      for config <- [raises, misses], do: PowRedisCache.put(config, {"key", 1})
      repair = Outage.begin(unquote(kind), context.server, proxy)

      # Processes that find the outage.
      assert_one_call_waits(raises, misses)
      # Processes that come later, when no other has come for a while.
      Process.sleep(@demand + 100)
      assert_one_call_waits(raises, misses)

      repair.()

      for config <- [raises, misses] do
        Wait.until(fn -> PowRedisCache.ping(config[:name]) == :ok end)
        assert PowRedisCache.put(config, {"key", 2}) == :ok
        assert PowRedisCache.get(config, "key") == 2
      end
    end
  end

  defp assert_one_call_waits(raises, misses) do
    [raised, missed] =
      [raises, misses]
      |> Enum.map(fn config ->
        Task.async(fn ->
          SchedulerStalls.time(fn -> for(_ <- 1..3, do: get(config)) ++ [put(config)] end)
        end)
      end)
      |> Task.await_many(60_000)

    assert {outcomes, took} = raised
    assert Enum.all?(outcomes, &(&1 in [:timeout, :disconnected]))
    assert took <= @timeout + @grace

    assert {[:not_found, :not_found, :not_found, put], took} = missed
    assert put in [:timeout, :disconnected]
    assert took <= @timeout + @grace
  end

  defp get(config) do
    PowRedisCache.get(config, "key")
  rescue
    error in Error -> error.reason
  end

  defp put(config) do
    PowRedisCache.put(config, {"key", 3})
  rescue
    error in Error -> error.reason
  end

  defp start_at(proxy, context, options) do
    options = Keyword.merge(options, url: HoldingProxy.url(proxy), timeout: @timeout)
    config = start_instance(context, options)
    Wait.until(fn -> PowRedisCache.ping(config[:name]) == :ok end)
    config
  end
end
