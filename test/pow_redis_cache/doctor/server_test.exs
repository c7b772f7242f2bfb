defmodule PowRedisCache.Doctor.ServerTest do
  # The doctor's checks of the server and its settings.
  use PowRedisCache.Case, async: true

  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Doctor, FakeServer}

  @moduletag server: []

  describe "the server check" do
    @describetag instance: [name: nil]

    test "fails if Redis is older than 7.0" do
      for {version, status} <- [{"6.2.14", :error}, {"7.0.0", :ok}, {"10.0.1", :ok}] do
        peer = start_with_info("redis_version:#{version}")
        checks = Doctor.check(url: FakeServer.url(peer))
        assert %{status: ^status, detail: "Redis " <> _} = check(checks, "server")
      end

      peer = start_with_info("redis_version:6.2.14")
      checks = Doctor.check(url: FakeServer.url(peer))
      assert failed(checks) == ["server"]
      assert detail(checks, "server") =~ "Redis 6.2.14 is too old"
      assert advice(checks, "server") == "Use Redis 7.0 or later, or Valkey."
    end

    test "fails on a cluster node and on a sentinel" do
      for {mode, option} <- [{"cluster", ":cluster"}, {"sentinel", ":sentinel"}] do
        peer = start_with_info("redis_version:7.0.15\r\nredis_mode:#{mode}")
        checks = Doctor.check(url: FakeServer.url(peer))
        assert failed(checks) == ["server"]
        assert advice(checks, "server") == "Use #{option} instead of :url."
      end
    end

    test "warns about clock skew" do
      # The server replies with a time in November 2023.
      time = {:send, "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"}

      peer = serve(fn command -> if command == ["TIME"], do: [time], else: [:default] end)
      checks = Doctor.check(url: FakeServer.url(peer))
      assert "clock" in warned(checks)
      assert detail(checks, "clock") =~ ~r/^the server's clock is \d{11,} ms behind this host's$/
      assert advice(checks, "clock") =~ "NTP"
    end

    test "replaces terminal escape sequences" do
      peer = start_with_info("redis_version:8\e[2J")
      checks = Doctor.check(url: FakeServer.url(peer))
      assert detail(checks, "server") == "Redis 8?[2J"
    end
  end

  test "the role check fails on a replica", %{server: server, client: client} do
    "OK" = RedisClient.command!(client, ["REPLICAOF", "127.0.0.1", Ports.free()])
    checks = Doctor.check(url: RedisServer.url(server))
    assert failed(checks) == ["role"]
    assert detail(checks, "role") == "read-only replica"
    assert advice(checks, "role") =~ "primary"
    # Later checks do not depend on the role.
    assert check(checks, "index").status == :ok
  end

  describe "the memory check" do
    test "warns about eviction once maxmemory is set", %{server: server, client: client} do
      set(client, "maxmemory-policy", "allkeys-lru")
      assert check(Doctor.check(url: RedisServer.url(server)), "eviction").status == :ok
      set(client, "maxmemory", "100mb")
      checks = Doctor.check(url: RedisServer.url(server))
      assert warned(checks) == ["eviction"]
      assert detail(checks, "eviction") =~ "allkeys-lru"
      assert advice(checks, "eviction") =~ "maxmemory-policy noeviction"
      assert detail(checks, "memory") =~ ~r/^[\d.]+ MB of 100\.0 MB used$/
      # With eviction, full memory is normal.
      set(client, "maxmemory", "1")
      assert warned(Doctor.check(url: RedisServer.url(server))) == ["eviction"]
    end

    test "warns if little memory is left, and fails if none is left", %{
      server: server,
      client: client
    } do
      set(client, "maxmemory", "1")
      checks = Doctor.check(url: RedisServer.url(server))
      assert failed(checks) == ["memory"]
      used = client |> RedisClient.command!(["INFO", "memory"]) |> line("used_memory")
      set(client, "maxmemory", div(String.to_integer(used) * 108, 100))
      checks = Doctor.check(url: RedisServer.url(server))
      assert warned(checks) == ["memory"]
      assert advice(checks, "memory") =~ "maxmemory"
    end
  end

  test "the clients check warns if the pool exceeds the remaining connections", %{
    server: server,
    client: client
  } do
    set(client, "maxclients", "10")
    checks = Doctor.check(url: RedisServer.url(server), pool_size: 9)
    assert warned(checks) == ["clients"]
    assert detail(checks, "clients") =~ "of 10 connected, pool_size is 9"

    assert check(Doctor.check(url: RedisServer.url(server), pool_size: 2), "clients").status ==
             :ok
  end

  describe "the persistence check" do
    @describetag instance: [name: nil]

    test "warns if Redis keeps nothing on disk", %{server: server, client: client} do
      url = RedisServer.url(server)
      assert detail(Doctor.check(url: url), "persistence") == "Redis saves snapshots"
      set(client, "save", "")
      checks = Doctor.check(url: url)
      assert warned(checks) == ["persistence"]

      assert detail(checks, "persistence") ==
               "Redis keeps nothing on disk: after a restart, all users are logged out"

      assert advice(checks, "persistence") =~ "`appendonly yes`"
      set(client, "appendonly", "yes")

      assert detail(Doctor.check(url: url), "persistence") == "Redis appends writes to a file"
      set(client, "appendonly", "no")
    end

    test "does not judge what the user may not see", %{server: server, client: client} do
      rules = ["reset", "on", "nopass", "~*", "+@all", "-config"]
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann" | rules])
      checks = Doctor.check(url: "redis://ann:x@127.0.0.1:#{server.port}")
      assert %{status: :ok, detail: "not reported by the server"} = check(checks, "persistence")
    end

    test "fails if the disk cannot be written", %{server: server, client: client} do
      # A folder stands where the snapshot should.
      File.mkdir_p!(Path.join(server.folder, "dump.rdb/folder"))
      RedisClient.command!(client, ["SET", "key", "value"])
      RedisClient.command!(client, ["BGSAVE"])

      Wait.until(fn ->
        RedisServer.info(server, "persistence", "rdb_last_bgsave_status") == "err"
      end)

      checks = Doctor.check(url: RedisServer.url(server))
      assert failed(checks) == ["persistence", "permissions"]
      assert detail(checks, "persistence") == "the last attempt to write to the disk failed"

      assert detail(checks, "permissions") ==
               "Redis cannot write to its disk, and refuses writes (MISCONF)"

      # Valkey puts its own name there.
      assert advice(checks, "permissions") =~
               ~r/Redis said: "MISCONF (Redis|Valkey) is configured to save RDB/
    end
  end

  # A server with that reply to INFO.
  defp start_with_info(info) do
    reply = {:send, "$#{byte_size(info)}\r\n#{info}\r\n"}
    serve(fn command -> if hd(command) == "INFO", do: [reply], else: [:default] end)
  end
end
