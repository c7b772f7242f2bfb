defmodule PowRedisCache.Doctor.NearCacheTest do
  # The doctor's check of the near cache.
  use PowRedisCache.Case, async: true

  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Commands, Doctor, FakeServer}

  @moduletag server: []
  @moduletag instance: [name: nil]

  test "is made with a near cache only", %{server: server} do
    refute check(Doctor.check(url: RedisServer.url(server)), "near cache")
    checks = near(server)
    assert failed(checks) == []

    assert detail(checks, "near cache") =~
             ~r/^Redis reports a change after [\d.]+ ms, and tracks \d+ keys of at most 1000000$/
  end

  test "deletes the key that it writes", %{server: server, client: client} do
    RedisClient.command!(client, ["FLUSHALL"])
    assert check(near(server), "near cache").status == :ok
    assert RedisClient.command!(client, ["DBSIZE"]) == 0
    assert RedisClient.command!(client, ["INFO", "commandstats"]) =~ "cmdstat_set:"
  end

  test "says that the permissions for it are missing", %{server: server, client: client} do
    for denied <- ["-client|tracking", "-info"] do
      rules = ["reset", "on", "nopass", "~*", "+@all", denied]
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann" | rules])
      options = [url: "redis://ann:x@127.0.0.1:#{server.port}", near_cache: true]
      checks = Doctor.check(options)
      assert failed(checks) == []
      assert "near cache" in warned(checks)
      assert detail(checks, "near cache") =~ "off, all reads go to Redis: the user may not"
      [_, line] = Regex.run(~r/`(ACL SETUSER ann .*)`/, advice(checks, "near cache"))
      "OK" = RedisClient.command!(client, String.split(line, " "))
      assert check(Doctor.check(options), "near cache").status == :ok
    end
  end

  test "the permissions check tries its commands too", %{server: server, client: client} do
    rules = Commands.key_rules() ++ Commands.acl_rules(:standalone)
    "OK" = RedisClient.command!(client, ~w(ACL SETUSER ann reset on nopass) ++ rules)
    url = "redis://ann:x@127.0.0.1:#{server.port}"
    assert check(Doctor.check(url: url), "permissions").status == :ok
    checks = Doctor.check(url: url, near_cache: true)
    assert failed(checks) == []
    assert detail(checks, "permissions") == "ann may not run CLIENT|TRACKING"
    assert advice(checks, "permissions") =~ "Without CLIENT|TRACKING, the near cache is off."
    [_, line] = Regex.run(~r/`(ACL SETUSER ann .*)`/, advice(checks, "permissions"))
    "OK" = RedisClient.command!(client, String.split(line, " "))
    checks = Doctor.check(url: url, near_cache: true)
    assert warned(checks) == []

    assert detail(checks, "near cache") =~
             "how many it may track is unknown: the user may not run CONFIG GET"
  end

  test "warns if Redis cannot track all keys", %{server: server, client: client} do
    set(client, "tracking-table-max-keys", "10")
    commands = for key <- 1..10, do: ["SET", "key#{key}", "value"]
    Enum.each(commands, &RedisClient.command!(client, &1))
    checks = near(server)
    assert "near cache" in warned(checks)
    assert detail(checks, "near cache") =~ ~r/ keys of at most 10\. The database has \d+ keys$/
    assert advice(checks, "near cache") =~ ~r/^`CONFIG SET tracking-table-max-keys \d\d+`/
    set(client, "tracking-table-max-keys", "0")
    assert check(near(server), "near cache").status == :ok
    assert detail(near(server), "near cache") =~ ~r/ keys without a limit$/
  end

  test "fails if a proxy withholds what Redis reports" do
    peer =
      serve(fn
        ["HELLO" | _] -> [{:send, "+OK\r\n"}]
        ["CLIENT", "TRACKING" | _] -> [{:send, "+OK\r\n"}]
        ["INFO" | _] -> [{:send, "$25\r\nrun_id:abc\r\nrole:master\r\n\r\n"}]
        _command -> [:default]
      end)

    options = [url: FakeServer.url(peer), near_cache: true, connect_timeout: 5_000]
    checks = Doctor.check(options)
    assert "near cache" in failed(checks)
    assert detail(checks, "near cache") =~ "a change was not reported"
    assert advice(checks, "near cache") =~ "remove :near_cache"
  end

  test "says that a server does not track" do
    peer =
      serve(fn
        ["HELLO" | _] -> [{:send, "-ERR unknown command 'HELLO'\r\n"}]
        _command -> [:default]
      end)

    checks = Doctor.check(url: FakeServer.url(peer), near_cache: true)
    assert "near cache" in warned(checks)
    assert detail(checks, "near cache") =~ "the server refuses HELLO 3 or CLIENT TRACKING"
  end

  defp near(server), do: Doctor.check(url: RedisServer.url(server), near_cache: true)
end
