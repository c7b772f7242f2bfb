defmodule PowRedisCache.Bench.NearData do
  @moduledoc """
  The records with which the near cache is measured, as Pow writes them: sessions, and users of about 750
  bytes. And a Redis server with them, and instances with and without a near cache.
  """

  alias PowRedisCache.{RedisServer, Wait}
  alias PowRedisCache.Bench.{Client, Dataset}
  alias PowRedisCache.Bench.App.User

  @config [ttl: :timer.hours(2), namespace: "credentials"]
  @chunk 1_000
  @about String.duplicate("a", 100)
  @time ~N[2024-02-29 12:00:00]

  @doc "Calls a function with a Redis server that has the sessions of so many users, and with its networks."
  def with_redis(users, function) do
    server = RedisServer.start!(["--save", ""])
    client = start_ours(:loading, server.port, near_cache: false)

    for chunk <- 1..users |> Stream.flat_map(&records/1) |> Stream.chunk_every(@chunk),
        do: :ok = client.put.(chunk)

    client.stop.()
    result = function.(server)
    RedisServer.stop(server)
    result
  end

  @doc "The records of a user with one session."
  def records(user), do: [session_record(user), {Dataset.user_key(user), user(user)}]

  @doc "The record of a user's session."
  def session_record(user) do
    session = session(user)
    {session, {Dataset.user_key(user), fingerprint: "fingerprint-#{session}"}}
  end

  @doc "A user's session."
  def session(user), do: Dataset.session(user, 1)

  defp user(user) do
    %User{id: user, email: "user#{user}@example.com", inserted_at: @time, updated_at: @time}
    |> Map.merge(%{about: @about <> "#{user}", name: "User #{user}"})
    |> Map.update!(:password_hash, &(&1 <> "#{user}"))
  end

  @doc "Reads a session and then its user, as Pow does for each page."
  def view_page(client, user) do
    {user_key, _metadata} = client.get.(session(user))
    %{id: ^user} = client.get.(user_key)
  end

  @doc """
  Starts an instance that is connected, and tracks what it reads if it has a near cache. `name` is that of
  the client too.
  """
  def start_ours(name, port, options) do
    options = [name: name, url: "redis://127.0.0.1:#{port}", timeout: 60_000] ++ options
    {:ok, pid} = PowRedisCache.start_link(options)
    :ok = PowRedisCache.ping(name)
    Wait.until(fn -> near_cache(name) == nil or near_cache(name).tracking end)
    Client.calling(name, pid, [name: name] ++ @config)
  end

  @doc "The counters of an instance's near cache."
  def near_cache(name), do: PowRedisCache.info(name).near_cache
end
