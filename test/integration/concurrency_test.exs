defmodule PowRedisCache.ConcurrencyTest do
  # Calls of many processes at the same time.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  @processes 1_000
  @rounds 10

  test "each process gets its own replies and no other message", %{config: config} do
    1..@processes
    |> Enum.map(fn number -> Task.async(fn -> work(config, number) end) end)
    |> Task.await_many(60_000)
    |> Enum.each(fn left -> assert left == [] end)
  end

  @tag server: [], instance: [timeout: 50]
  test "a call that times out leaves no message in the mailbox", %{config: config, client: client} do
    Wait.until(fn -> PowRedisCache.info(config[:name]).connected end)
    RedisClient.command!(client, ["CLIENT", "PAUSE", "60000", "WRITE"])
    timeouts = :counters.new(1, [])

    callers =
      1..200
      |> Enum.map(fn number ->
        Task.async(fn ->
          outcome =
            try do
              PowRedisCache.put(config, {"key#{number}", number})
            rescue
              error in PowRedisCache.Error ->
                :counters.add(timeouts, 1, if(error.reason == :timeout, do: 1, else: 0))
                error.reason
            end

          # An empty queue means that late replies have arrived, too.
          Wait.until(fn -> PowRedisCache.info(config[:name]).queue == 0 end)
          {outcome, messages()}
        end)
      end)

    Wait.until(fn -> :counters.get(timeouts, 1) > 0 end)
    RedisClient.command!(client, ["CLIENT", "UNPAUSE"])
    outcomes = Task.await_many(callers, 60_000)
    assert Enum.all?(outcomes, &match?({_outcome, []}, &1))
    assert Enum.any?(outcomes, &match?({:timeout, []}, &1))
  end

  defp work(config, number) do
    for round <- 1..@rounds do
      own = ["p#{number}", round]
      :ok = PowRedisCache.put(config, {own, {number, round}})
      {^number, ^round} = PowRedisCache.get(config, own)
      :not_found = PowRedisCache.get(config, ["p#{number}", -round])

      case rem(round, 3) do
        0 -> :ok = PowRedisCache.delete(config, own)
        1 -> [{^own, {^number, ^round}}] = PowRedisCache.all(config, own)
        2 -> true = {own, {number, round}} in PowRedisCache.all(config, ["p#{number}", :_])
      end
    end

    messages()
  end

  defp messages do
    {:messages, messages} = Process.info(self(), :messages)
    messages
  end
end
