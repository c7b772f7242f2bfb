defmodule PowRedisCache.GoldenTest do
  # The exact bytes in Redis, generated on Erlang/OTP 25 and 27 with
  # Enum.map_join(parts, ":", &Base.url_encode64(:erlang.term_to_binary(&1), padding: false)).
  use PowRedisCache.Case, async: true

  @moduletag server: []

  @namespace "credentials"

  # The parts after the namespace, the current key (Erlang/OTP 26 and later) and the legacy one (25 and
  # earlier).
  @paths [
    {["abc"], "g20AAAALY3JlZGVudGlhbHM:g20AAAADYWJj", "g20AAAALY3JlZGVudGlhbHM:g20AAAADYWJj"},
    {[:user, 1], "g20AAAALY3JlZGVudGlhbHM:g3cEdXNlcg:g2EB",
     "g20AAAALY3JlZGVudGlhbHM:g2QABHVzZXI:g2EB"},
    {[MyApp.User, :user, 1, :session, "s"],
     "g20AAAALY3JlZGVudGlhbHM:g3cRRWxpeGlyLk15QXBwLlVzZXI:g3cEdXNlcg:g2EB:g3cHc2Vzc2lvbg:g20AAAABcw",
     "g20AAAALY3JlZGVudGlhbHM:g2QAEUVsaXhpci5NeUFwcC5Vc2Vy:g2QABHVzZXI:g2EB:g2QAB3Nlc3Npb24:g20AAAABcw"},
    {[:é, [id: 2_147_483_648, f: 1.5]],
     "g20AAAALY3JlZGVudGlhbHM:g3cCw6k:g2wAAAACaAJ3AmlkbgQAAAAAgGgCdwFmRj_4AAAAAAAAag",
     "g20AAAALY3JlZGVudGlhbHM:g2QAAek:g2wAAAACaAJkAAJpZG4EAAAAAIBoAmQAAWZGP_gAAAAAAABq"},
    {[:日, ~c"ab", {-1, []}], "g20AAAALY3JlZGVudGlhbHM:g3cD5pel:g2sAAmFi:g2gCYv____9q",
     "g20AAAALY3JlZGVudGlhbHM:g3cD5pel:g2sAAmFi:g2gCYv____9q"}
  ]

  setup %{config: config}, do: [config: Keyword.put(config, :namespace, @namespace)]

  @tag :plain
  test "writes the same keys and index members on all releases", %{config: config, client: client} do
    for {parts, path, _legacy} <- @paths do
      RedisClient.command!(client, ["FLUSHALL"])
      PowRedisCache.put(config, {parts, :value})

      splits =
        for i <- 1..length(parts) do
          {prefix, member} = path |> String.split(":") |> Enum.split(i)
          {"_index:" <> Enum.join(prefix, ":"), Enum.join(member, ":")}
        end

      keys = client |> RedisClient.command!(["KEYS", "*"]) |> Enum.sort()
      assert keys == Enum.sort([path | Enum.map(splits, &elem(&1, 0))])
      assert RedisClient.command!(client, ["GET", path]) == :erlang.term_to_binary(:value)

      for {set, member} <- splits do
        assert RedisClient.command!(client, ["ZRANGE", set, 0, -1]) == [member]
      end
    end
  end

  test "reads and deletes current and legacy keys", %{config: config, client: client} do
    for {parts, path, legacy} <- @paths, found <- [path, legacy] do
      RedisClient.command!(client, ["FLUSHALL"])
      RedisClient.command!(client, ["SET", found, :erlang.term_to_binary(1)])
      assert PowRedisCache.get(config, parts) == 1
      PowRedisCache.delete(config, parts)
      assert RedisClient.command!(client, ["DBSIZE"]) == 0
    end
  end

  test "PowGuideStore writes the same bytes", %{pow_store: pow_store} do
    for {parts, path, legacy} <- @paths do
      assert PowGuideStore.path(%{pow_store | otp: 26}, [@namespace | parts]) == path
      assert PowGuideStore.path(%{pow_store | otp: 25}, [@namespace | parts]) == legacy
    end
  end
end
