defmodule PowRedisCache.Bench.NearCache do
  @moduledoc """
  Measures reads from the near cache beside `:ets.lookup/2` of the same records, and the memory that the near
  cache takes after many sessions and users were read.
  """

  alias PowRedisCache.{Options, RedisServer, Wait}
  alias PowRedisCache.Bench.{Counters, Dataset, LoadGenerator}
  alias PowRedisCache.Bench.App.User

  @name __MODULE__
  @config [ttl: :timer.hours(2), namespace: "credentials", name: @name]
  @chunk 1_000
  @callers 64
  @sample_ms 100

  # About 750 bytes when encoded.
  @about String.duplicate("a", 100)
  @time ~N[2024-02-29 12:00:00]

  @doc """
  Returns rows of the record, the number of callers, what reads, the median in nanoseconds, and the reads a
  second. `ms` is how long each of them reads.
  """
  def hits(ms) do
    users = 5_000

    with_redis(users, fn server ->
      start(server, near_cache: true)
      table = :ets.new(@name, [:public, read_concurrency: true, write_concurrency: true])
      :ets.insert(table, Enum.to_list(records(users)))
      readers = [{":ets.lookup", &lookup(table, &1)}, {"near cache", &get/1}]

      for user <- 1..users,
          key <- [session(user), Dataset.user_key(user)],
          _twice <- 1..2,
          do: get(key)

      %{misses: misses} = near_cache()

      rows =
        for {record, key} <- [session: &session/1, user: &Dataset.user_key/1],
            callers <- [1, @callers],
            {name, read} <- readers,
            do: row(record, key, callers, name, read, users, ms)

      # None of these went to Redis.
      %{misses: ^misses} = near_cache()
      stop()
      rows
    end)
  end

  defp row(record, key, callers, name, read, users, ms) do
    call = fn caller, number, keys ->
      true = read.(elem(keys, rem(caller * 7919 + number * 104_729, users))) != :not_found
    end

    prepare = fn _caller -> 1..users |> Enum.map(key) |> List.to_tuple() end

    {times, duration, %{}} = LoadGenerator.run(callers, {:for, ms}, prepare, call, fn -> %{} end)

    median = times |> Enum.sort() |> Enum.at(div(length(times), 2))
    {record, callers, name, median, round(length(times) * 1_000_000_000 / duration)}
  end

  @doc """
  Reads the sessions and users of so many users. Returns by how many bytes the resident memory of the VM has
  grown at most, `:max_bytes`, and the near cache's counters.
  """
  def memory(users) do
    with_redis(users, fn server ->
      # So that the memory of the reads themselves is not counted.
      start(server, near_cache: false)
      read_all(div(users, 10))
      stop()

      start(server, near_cache: true)
      before = Counters.resident_bytes()
      reading = Task.async(fn -> read_all(users) end)
      most = most_resident_bytes(reading, before)
      near_cache = near_cache()
      stop()
      max_bytes = Options.validate!(near_cache: true).near_cache.max_bytes
      %{bytes: most - before, max_bytes: max_bytes, near_cache: near_cache}
    end)
  end

  defp read_all(users) do
    1..@callers
    |> Enum.map(fn caller -> Task.async(fn -> read(caller, users) end) end)
    |> Task.await_many(:infinity)
  end

  defp read(caller, users) do
    Enum.each(caller..users//@callers, fn user ->
      {user_key, _metadata} = get(session(user))
      %{id: ^user} = get(user_key)
    end)
  end

  defp most_resident_bytes(reading, most) do
    most = max(most, Counters.resident_bytes())
    if Task.yield(reading, @sample_ms), do: most, else: most_resident_bytes(reading, most)
  end

  defp with_redis(users, function) do
    server = RedisServer.start!(["--save", ""])
    start(server, near_cache: false)

    for chunk <- users |> records() |> Stream.chunk_every(@chunk),
        do: PowRedisCache.put(@config, chunk)

    stop()
    result = function.(server)
    RedisServer.stop(server)
    result
  end

  defp records(users) do
    Stream.flat_map(1..users, fn user ->
      [
        {session(user), {Dataset.user_key(user), fingerprint: "fingerprint-#{session(user)}"}},
        {Dataset.user_key(user), user(user)}
      ]
    end)
  end

  defp session(user), do: Dataset.session(user, 1)

  defp user(user) do
    %User{id: user, email: "user#{user}@example.com", inserted_at: @time, updated_at: @time}
    |> Map.merge(%{about: @about <> "#{user}", name: "User #{user}"})
  end

  defp start(server, options) do
    options = [name: @name, url: RedisServer.url(server), timeout: 60_000] ++ options
    {:ok, _pid} = PowRedisCache.start_link(options)
    :ok = PowRedisCache.ping(@name)
    Wait.until(fn -> near_cache() == nil or near_cache().tracking end)
  end

  defp stop, do: GenServer.stop(@name)
  defp near_cache, do: PowRedisCache.info(@name).near_cache
  defp get(key), do: PowRedisCache.get(@config, key)

  defp lookup(table, key) do
    [{_key, value}] = :ets.lookup(table, key)
    value
  end
end
