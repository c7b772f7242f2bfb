defmodule PowRedisCache.Bench.NearCache do
  @moduledoc """
  Measures the near cache: reads from memory, calls that go to Redis nevertheless, how long a session is
  read that another instance has deleted, and memory.
  """

  alias PowRedisCache.Options
  alias PowRedisCache.Bench.{Counters, LoadGenerator, NearCalls, NearData, NearDeletion, NearHits}

  @callers 64
  # Ten times the sign-ins of `Footprint`: a million in a full run.
  @users_per_sign_in 10

  def run(settings) do
    %{
      hits: NearHits.run(settings),
      calls: NearCalls.run(settings),
      deletion: NearDeletion.run(settings),
      memory: memory(@users_per_sign_in * settings.sign_ins)
    }
  end

  # Reads the sessions and users of so many users. Returns the bytes by which the resident memory of the VM is
  # larger with a near cache than without.
  defp memory(users) do
    NearData.with_redis(users, fn server ->
      # Twice, so that the memory of the reads themselves is not counted.
      [_first, without] = for _ <- 1..2, do: resident(server, users, near_cache: false)
      with_cache = resident(server, users, near_cache: true)

      %{
        users: users,
        bytes: with_cache - without,
        max_bytes: Options.validate!(near_cache: true).near_cache.max_bytes
      }
    end)
  end

  defp resident(server, users, options) do
    client = NearData.start_ours(:memory, server.port, options)
    per_caller = div(users, @callers)

    LoadGenerator.run(
      @callers,
      {:times, per_caller},
      fn _caller -> nil end,
      fn caller, number, nil ->
        NearData.view_page(client, (caller - 1) * per_caller + number)
      end,
      &Map.new/0
    )

    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    bytes = Counters.resident_bytes()
    client.stop.()
    bytes
  end
end
