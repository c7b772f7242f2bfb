# The calls that Pow makes while people log in and out, and what they leave in Redis.
# Run it with bin/demo.

defmodule Demo do
  @config [namespace: "credentials", ttl: :timer.minutes(30)]
  @user [MyApp.Users.User, :user, 1]

  def run(["before_deploy"]) do
    step("Ann signs in on her laptop, and on her phone", fn ->
      sign_in("laptop")
      sign_in("phone")
    end)

    show_redis()
    step("Her sessions", &sessions/0, ["laptop", "phone"])
    step("The request of her laptop finds her", fn -> user_of("laptop") end, "ann@example.com")
    step("She logs out on her laptop", fn -> sign_out("laptop") end)
    step("Her laptop is logged out", fn -> user_of("laptop") end, :not_found)
    show_redis()
  end

  def run(["after_deploy"]) do
    step("Her phone is still logged in", fn -> user_of("phone") end, "ann@example.com")
    step("Her laptop is still logged out", fn -> user_of("laptop") end, :not_found)

    short = Keyword.put(@config, :ttl, 300)
    step("A token that lives for 300 ms", fn -> PowRedisCache.put(short, {"token", 1}) end)
    step("It is there", fn -> PowRedisCache.get(@config, "token") end, 1)
    wait_until_gone("token", System.monotonic_time(:millisecond) + 10_000)
    step("Later it has expired", fn -> PowRedisCache.get(@config, "token") end, :not_found)
    step("Her sessions", &sessions/0, ["phone"])
    show_redis()
    show_speed()
  end

  # Pow.Store.CredentialsCache.put/3
  defp sign_in(session) do
    PowRedisCache.put(@config, [
      {session, {@user, []}},
      {@user, %{email: "ann@example.com"}},
      {@user ++ [:session, session], System.os_time(:millisecond)}
    ])
  end

  # Pow.Store.CredentialsCache.delete/2
  defp sign_out(session) do
    {user, _metadata} = PowRedisCache.get(@config, session)
    PowRedisCache.delete(@config, session)
    PowRedisCache.delete(@config, user ++ [:session, session])
  end

  # Pow.Store.CredentialsCache.get/2
  defp user_of(session) do
    with {user, _metadata} <- PowRedisCache.get(@config, session),
         %{email: email} <- PowRedisCache.get(@config, user),
         do: email
  end

  # Pow.Store.CredentialsCache.sessions/2
  defp sessions do
    for {key, _inserted_at} <- PowRedisCache.all(@config, @user ++ [:session, :_]),
        do: List.last(key)
  end

  defp wait_until_gone(key, deadline) do
    cond do
      PowRedisCache.get(@config, key) == :not_found -> :ok
      System.monotonic_time(:millisecond) > deadline -> raise "#{key} did not expire"
      true -> wait_until_gone(key, deadline)
    end
  end

  defp step(title, call, expected \\ :ok) do
    {microseconds, result} = :timer.tc(call)
    IO.puts("\n#{title}\n  #{inspect(result)}  (#{microseconds} µs)")
    if result != expected, do: raise("expected #{inspect(expected)}")
  end

  defp show_redis do
    IO.puts("\nIn Redis:")

    for key <- redis(["KEYS", "*"]) |> String.split("\n", trim: true) |> Enum.sort() do
      case key do
        "_index:" <> path -> IO.puts("  index of #{readable(path)}: #{members(key)}")
        path -> IO.puts("  #{readable(path)}, #{seconds(path)} s left")
      end
    end
  end

  defp members(set) do
    redis(["ZRANGE", set, "0", "-1"])
    |> String.split("\n", trim: true)
    |> Enum.map_join(", ", &readable/1)
  end

  defp seconds(key), do: ["TTL", key] |> redis() |> String.trim()

  defp readable(path) do
    path
    |> String.split(":")
    |> Enum.map(&(&1 |> Base.url_decode64!(padding: false) |> :erlang.binary_to_term()))
    |> inspect()
  end

  defp redis(arguments) do
    {output, 0} = System.cmd("redis-cli", ["-u", System.fetch_env!("REDIS_URL") | arguments])
    output
  end

  defp show_speed do
    IO.puts("\nTime per call, median of 2,000:")

    for {name, call} <- [
          {"get", fn -> PowRedisCache.get(@config, "phone") end},
          {"sign in (put of three records)", fn -> sign_in("phone") end},
          {"sessions of the user (all)", &sessions/0}
        ] do
      times = for _ <- 1..2_000, do: call |> :timer.tc() |> elem(0)
      IO.puts("  #{name}: #{times |> Enum.sort() |> Enum.at(1_000)} µs")
    end
  end
end

Logger.configure(level: :warning)

{:ok, _} =
  Supervisor.start_link([{PowRedisCache, url: System.fetch_env!("REDIS_URL")}],
    strategy: :one_for_one
  )

Demo.run(System.argv())
