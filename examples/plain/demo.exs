# Ann signs in and out on two devices, before and after a deploy, and the demo shows the keys in Redis.
# Like bin/demo, run each phase in a new VM:
#
#     mix run demo.exs before_deploy
#     mix run demo.exs after_deploy

defmodule Demo do
  alias Plain.Sessions

  @ann %{id: 1, email: "ann@example.com"}

  def run(["before_deploy"]) do
    step("Ann signs in on her laptop", fn -> Sessions.sign_in(@ann, "laptop") end)
    step("and on her phone", fn -> Sessions.sign_in(@ann, "phone") end)
    show_redis()
    step("Her sessions", &sessions/0, ["laptop", "phone"])
    step("The request of her laptop finds her", fn -> Sessions.user("laptop") end, @ann)
    step("She logs out on her laptop", fn -> Sessions.sign_out("laptop") end)
    step("Her laptop is logged out", fn -> Sessions.user("laptop") end, :not_found)
    show_redis()
  end

  def run(["after_deploy"]) do
    step("Her phone is still logged in", fn -> Sessions.user("phone") end, @ann)
    step("Her laptop is still logged out", fn -> Sessions.user("laptop") end, :not_found)

    token = [namespace: "reset_token", ttl: 300]
    step("A token that lives for 300 ms", fn -> PowRedisCache.put(token, {"token", @ann}) end)
    step("It is there", fn -> PowRedisCache.get(token, "token") end, @ann)
    wait_until_gone(token, "token", System.monotonic_time(:millisecond) + 10_000)
    step("Later it has expired", fn -> PowRedisCache.get(token, "token") end, :not_found)

    step("She signs in on a tablet", fn -> Sessions.sign_in(@ann, "tablet") end)
    step("Her sessions", &sessions/0, ["phone", "tablet"])
    show_speed()
    step("She signs out everywhere", fn -> Sessions.sign_out_everywhere(@ann.id) end)
    step("Her phone is logged out", fn -> Sessions.user("phone") end, :not_found)
    step("Her tablet too", fn -> Sessions.user("tablet") end, :not_found)
    show_redis()
  end

  defp sessions, do: Sessions.list(@ann.id)

  defp wait_until_gone(config, key, deadline) do
    cond do
      PowRedisCache.get(config, key) == :not_found -> :ok
      System.monotonic_time(:millisecond) > deadline -> raise "#{key} did not expire"
      true -> wait_until_gone(config, key, deadline)
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
    {output, 0} = System.cmd("redis-cli", ["-u", url() | arguments])
    output
  end

  defp url, do: System.get_env("REDIS_URL", "redis://localhost:6379")

  defp show_speed do
    IO.puts("\nTime per call, median of 2,000:")

    for {name, call} <- [
          {"user of a session (two gets)", fn -> Sessions.user("phone") end},
          {"sign in (put of three records)", fn -> Sessions.sign_in(@ann, "phone") end},
          {"sessions of a user (all)", &sessions/0}
        ] do
      times = for _ <- 1..2_000, do: call |> :timer.tc() |> elem(0)
      IO.puts("  #{name}: #{times |> Enum.sort() |> Enum.at(1_000)} µs")
    end
  end
end

Logger.configure(level: :warning)
Demo.run(System.argv())
