defmodule PowRedisCache.DoctorTest do
  # The doctor on real servers, one problem at a time.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureIO
  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Certificates, Doctor, FakeServer, SchedulerStalls}

  @moduletag server: []

  @password "s3cret-p4ssword"

  test "finds no problem on a healthy server", %{server: server, name: name, config: config} do
    PowRedisCache.put(config, {["a", 1], 1})
    checks = Doctor.check(name: name)
    assert Enum.reject(checks, &(&1.status == :ok)) == []
    assert detail(checks, "endpoint") == "127.0.0.1:#{server.port}"
    assert detail(checks, "DNS") =~ ~r/^127\.0\.0\.1 in [\d.]+ ms$/
    assert detail(checks, "server") == PowRedisCache.info(name).version
    assert detail(checks, "role") == "primary"
    assert detail(checks, "latency") =~ ~r/^median [\d.]+ ms, slowest [\d.]+ ms of 100 pings$/
    assert detail(checks, "clock") =~ ~r/^-?\d+ ms apart$/
    assert detail(checks, "library") =~ ~r/^0\.\d+\.\d+ for \S+-\S+, .*pow_redis_nif\.so$/
    assert detail(checks, "keys") =~ "1 in the index and 0 not; 3 keys in total"
    assert detail(checks, "index") == "2 sets with 2 members, 0 of them expired"
    # The connections of the instance, the doctor and the test's client.
    assert detail(checks, "clients") =~ ~r/^\d+ of \d+ connected, pool_size is 2$/
  end

  test "writes nothing and leaves no key, message or thread behind", %{
    server: server,
    client: client
  } do
    RedisClient.command!(client, ["FLUSHALL"])
    before = RedisClient.command!(client, ["INFO", "stats"])
    Doctor.check(url: RedisServer.url(server))
    later = RedisClient.command!(client, ["INFO", "stats"])

    for field <- ["expired_keys", "evicted_keys"],
        do: assert(line(before, field) == line(later, field))

    persistence = RedisClient.command!(client, ["INFO", "persistence"])
    assert line(persistence, "rdb_changes_since_last_save") == "0"
    assert RedisClient.command!(client, ["DBSIZE"]) == 0
    {:messages, messages} = Process.info(self(), :messages)
    # Ignores the output of the Redis server's port.
    assert Enum.reject(messages, &match?({port, _} when is_port(port), &1)) == []
    Wait.until(fn -> doctor_threads() == 0 end)
  end

  describe "the connection check" do
    test "fails at DNS if the host is unknown" do
      # The label is too long, so that the resolver fails without a query.
      unknown = String.duplicate("x", 64)
      checks = Doctor.check(url: "redis://:#{@password}@#{unknown}")
      assert failed(checks) == ["DNS"]
      assert detail(checks, "DNS") == "cannot resolve #{unknown}"
      assert advice(checks, "DNS") =~ ":url"
      assert skipped(checks) |> hd() == "connection"
      assert detail(checks, "index") == "needs DNS"
    end

    test "fails if the port is closed" do
      port = Ports.free()
      checks = Doctor.check(url: "redis://127.0.0.1:#{port}")
      assert failed(checks) == ["connection"]
      assert detail(checks, "connection") =~ "127.0.0.1:#{port} refused the connection"
      assert detail(checks, "login") == "needs connection"
    end

    test "fails if the Unix socket does not exist", %{server: server} do
      checks = Doctor.check(url: "unix://#{server.folder}/missing.sock")
      assert detail(checks, "DNS") =~ "not needed"
      assert failed(checks) == ["connection"]
    end

    test "fails within :connect_timeout if the server does not reply" do
      peer = FakeServer.start!([:silence], at: :login)
      options = [url: FakeServer.url(peer), connect_timeout: 1_000]
      {checks, took} = SchedulerStalls.time(fn -> Doctor.check(options) end)
      assert took < 5_000
      assert failed(checks) == ["login"]
      assert detail(checks, "login") == "no reply within 1000 ms"
    end

    test "fails if the server closes the connection between the checks" do
      # At the first ping.
      peer = serve(fn command -> if command == ["PING"], do: [:close], else: [:default] end)
      checks = Doctor.check(url: FakeServer.url(peer))
      assert failed(checks) == ["latency"]
      assert detail(checks, "permissions") == "needs latency"
    end

    test "calls a function for :url, and fails if the function raises", %{server: server} do
      assert failed(Doctor.check(url: fn -> RedisServer.url(server) end)) == []

      checks = Doctor.check(url: fn -> raise @password end)
      assert failed(checks) == ["endpoint"]
      assert detail(checks, "endpoint") =~ "the function for `:url`"

      # The database of this URL is not a number.
      url = "redis://ann:#{@password}@host/x"

      for {url, check, message} <- [
            {url, "configuration", "the path is not a database number"},
            {fn -> url end, "endpoint", "is not a valid Redis URL"}
          ] do
        checks = Doctor.check(url: url)
        assert failed(checks) == [check]
        assert detail(checks, check) =~ message
        refute inspect(checks) =~ @password
      end
    end

    test "fails at the configuration if an option is invalid" do
      for options <- [[url: "http://ann:#{@password}@host"], [url: "redis://h", pool: 1]] do
        checks = Doctor.check(options)
        assert failed(checks) == ["configuration"]
        assert hd(skipped(checks)) == "endpoint"
        refute inspect(checks) =~ @password
      end
    end

    test "fails at the configuration if the instance is not running" do
      checks = Doctor.check(name: :missing)
      assert failed(checks) == ["configuration"]
      assert detail(checks, "configuration") == ":missing is not running in this VM"
      assert advice(checks, "configuration") =~ "--url"
    end
  end

  describe "the login check" do
    @describetag instance: [name: nil]

    setup %{client: client}, do: set(client, "requirepass", @password)

    test "fails with a wrong password, and does not show it", %{server: server} do
      url = "redis://ann:not-#{@password}@127.0.0.1:#{server.port}"
      {checks, output} = with_output(url: url)
      assert failed(checks) == ["login"]

      assert detail(checks, "login") =~
               "as ann: Redis rejected the username or password (WRONGPASS)"

      assert advice(checks, "login") =~ ":url"
      refute output =~ @password
    end

    test "fails without a password", %{server: server} do
      checks = Doctor.check(url: RedisServer.url(server))
      assert detail(checks, "login") =~ "NOAUTH"
    end

    test "passes with the password of an instance, and does not show it", %{server: server} do
      name = unique_name()
      options = [name: name, url: RedisServer.url(server), password: @password]
      start_supervised!({PowRedisCache, options})
      {checks, output} = with_output(name: name)
      assert failed(checks) == []
      refute output =~ @password
      state = :sys.get_state(name)
      refute inspect(state, limit: :infinity, printable_limit: :infinity) =~ @password
    end

    test "fails if the database does not exist", %{server: server} do
      checks = Doctor.check(url: RedisServer.url(server), password: @password, database: 99)
      assert failed(checks) == ["login"]

      assert detail(checks, "login") ==
               "username and password are correct, but SELECT of the database failed"
    end
  end

  test "the login check suggests removing the password if the server has none", %{server: server} do
    checks = Doctor.check(url: "redis://:#{@password}@127.0.0.1:#{server.port}")
    assert failed(checks) == ["login"]
    assert advice(checks, "login") =~ "Remove the password"
  end

  describe "the TLS check" do
    @describetag instance: [name: nil]

    test "passes with a verified certificate" do
      checks = secure(:server, cacertfile: Certificates.path(:ca))
      assert failed(checks) == []

      assert detail(checks, "TLS") =~
               ~r/^verified; issued by ca of tests, expires 20\d\d-\d\d-\d\d$/

      # The certificates of the tests are valid for ten days.
      assert advice(checks, "TLS") =~ ~r/Renew the certificate: it expires in (9|10) days/
    end

    test "fails with an invalid certificate" do
      for {certificate, options, found} <- [
            {:server, [], "is signed by an unknown authority"},
            {:expired, [cacertfile: Certificates.path(:ca)], "has expired"},
            {:wrong_host, [cacertfile: Certificates.path(:ca)], "does not match the host name"}
          ] do
        checks = secure(certificate, options)
        assert failed(checks) == ["TLS"]
        assert detail(checks, "TLS") =~ found
        assert detail(checks, "TLS") =~ "issued by ca of tests, expires "
        assert advice(checks, "TLS") =~ "verify: :verify_none"
        assert detail(checks, "login") == "needs TLS"
      end

      checks = secure(:expired, cacertfile: Certificates.path(:ca))
      # It expired the day before the tests created it, which may have been yesterday.
      assert [_, date] = Regex.run(~r/expires ([\d-]+)/, detail(checks, "TLS"))
      assert Date.diff(Date.utc_today(), Date.from_iso8601!(date)) in 1..2
    end

    test "warns if the certificate is not verified" do
      checks = secure(:expired, verify: :verify_none)
      assert %{status: :warning} = check(checks, "TLS")
      assert detail(checks, "TLS") =~ "not verified; issued by ca of tests, expires "
      assert advice(checks, "TLS") =~ ":cacertfile"
      assert failed(checks) == []
    end

    test "fails if the server does not use TLS", %{server: server} do
      checks = Doctor.check(url: "rediss://127.0.0.1:#{server.port}", connect_timeout: 1_000)
      assert failed(checks) == ["TLS"]
      assert detail(checks, "TLS") == "no reply to the handshake within 1000 ms"
      assert advice(checks, "TLS") =~ "redis://"
    end

    test "fails without the client certificate that the server requires" do
      port = Ports.free()
      arguments = Certificates.server_arguments(port, :server, ["--tls-auth-clients", "yes"])
      server = RedisServer.start!(arguments)
      options = [url: "rediss://localhost:#{port}", cacertfile: Certificates.path(:ca)]
      # If the server closes the connection before the alert is read, the error is another one.
      Wait.until(fn ->
        checks = Doctor.check(options)
        assert [failed] = failed(checks)
        assert failed in ["TLS", "login"]
        advice(checks, failed) =~ ":certfile"
      end)

      client = [certfile: Certificates.path(:client), keyfile: Certificates.key(:client)]
      assert failed(Doctor.check(options ++ client)) == []
      RedisServer.stop(server)
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

  describe "the permissions check" do
    @describetag instance: [name: nil]

    test "passes after running its ACL line", %{server: server, client: client} do
      for rules <- [
            ["~*", "+@all", "-zadd", "-set"],
            ["~*"],
            ["+@all"],
            [],
            ["~other", "+@all", "-renamenx"]
          ] do
        reset = ["ACL", "SETUSER", "ann", "reset", "on", ">" <> @password]
        "OK" = RedisClient.command!(client, reset ++ rules)
        url = "redis://ann:#{@password}@127.0.0.1:#{server.port}"
        checks = Doctor.check(url: url)
        assert "permissions" in failed(checks), inspect(rules)
        [_, line] = Regex.run(~r/`(ACL SETUSER ann .*)`/, advice(checks, "permissions"))
        "OK" = RedisClient.command!(client, String.split(line, " "))
        checks = Doctor.check(url: url)
        assert failed(checks) == [], inspect({rules, line})
        assert detail(checks, "permissions") == "ann may run all required commands"
      end
    end

    test "names the denied commands, and grants nothing else", %{server: server, client: client} do
      rules = ["~*", "+@all", "-zadd", "-set"]
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "on", "nopass" | rules])
      checks = Doctor.check(url: "redis://ann:x@127.0.0.1:#{server.port}")
      assert detail(checks, "permissions") == "ann may not run SET, ZADD"

      assert advice(checks, "permissions") ==
               "Run on the server: `ACL SETUSER ann +del +exists +get +pexpire +ping +pttl +renamenx " <>
                 "+scan +set +time +zadd +zrem +zremrangebyscore +zscan +zscore +client|info " <>
                 "+client|kill +echo +info`"

      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "resetkeys", "~other"])
      checks = Doctor.check(url: "redis://ann:x@127.0.0.1:#{server.port}")
      assert detail(checks, "permissions") == "ann may not run SET, ZADD, or access the keys"
      assert advice(checks, "permissions") =~ "ACL SETUSER ann ~g* ~_index:* +del "
    end

    test "has an ACL line that permits all operations", %{server: server, client: client} do
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "on", "nopass"])
      url = "redis://ann:x@127.0.0.1:#{server.port}"
      [_, line] = Regex.run(~r/`(ACL .*)`/, advice(Doctor.check(url: url), "permissions"))
      "OK" = RedisClient.command!(client, String.split(line, " "))

      pow_store = %PowGuideStore{client: client, version: 1, otp: 25}
      PowGuideStore.put(pow_store, ["n", "a", :b], 1, 60_000)
      name = unique_name()
      start_supervised!({PowRedisCache, name: name, url: url})
      config = [name: name, namespace: "n", ttl: 60_000]
      assert %{renamed: 1} = PowRedisCache.reindex(name: name)
      assert PowRedisCache.put(config, {["a", 2], 2}) == :ok
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", 2], 2}, {["a", :b], 1}]
      assert PowRedisCache.delete(config, ["a", :b]) == :ok
    end

    test "warns if the user may not run INFO, and skips the checks that need it", %{
      server: server,
      client: client
    } do
      rules = ["~*", "+@all", "-info"]
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "on", "nopass" | rules])
      checks = Doctor.check(url: "redis://ann:x@127.0.0.1:#{server.port}")
      assert warned(checks) == ["server", "permissions"]
      assert advice(checks, "server") =~ "ACL SETUSER ann +info"
      assert skipped(checks) == ["role", "memory", "eviction", "persistence", "clients"]
      assert detail(checks, "memory") == "needs server"
    end
  end

  describe "commands that the server refuses" do
    @describetag instance: [name: nil]

    test "are an error if calls need them" do
      {server, checks} = renamed(["PEXPIRE", "ZADD"])
      assert failed(checks) == ["permissions"]
      assert detail(checks, "permissions") == "the server refuses PEXPIRE, ZADD"

      assert advice(checks, "permissions") ==
               "Remove these commands from `rename-command` in the server's configuration. If a " <>
                 "proxy refuses them, connect without it."

      RedisServer.stop(server)
    end

    test "are a warning if calls work without them" do
      {server, checks} = renamed(["INFO", "TIME", "CONFIG"])
      assert failed(checks) == []
      assert warned(checks) == ["server", "permissions", "clock"]
      assert detail(checks, "server") == "unknown: the server refuses the command"
      assert detail(checks, "permissions") == "the server refuses TIME, INFO"
      assert advice(checks, "permissions") =~ "Without TIME, the clock of this host is used."
      assert advice(checks, "permissions") =~ "a deleted session may come back."
      RedisServer.stop(server)
    end

    test "are a warning if they only protect against rare faults", %{
      server: server,
      client: client
    } do
      for {rule, name} <- [
            {"-client|kill", "CLIENT|KILL"},
            {"-client|info", "CLIENT|INFO"},
            {"-echo", "ECHO"},
            {"-time", "TIME"}
          ] do
        rules = ["reset", "on", "nopass", "~*", "+@all", rule]
        "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann" | rules])
        url = "redis://ann:x@127.0.0.1:#{server.port}"
        checks = Doctor.check(url: url)
        assert failed(checks) == []
        assert "permissions" in warned(checks)
        assert detail(checks, "permissions") == "ann may not run #{name}"
        [_, line] = Regex.run(~r/`(ACL SETUSER ann .*)`/, advice(checks, "permissions"))
        "OK" = RedisClient.command!(client, String.split(line, " "))
        assert check(Doctor.check(url: url), "permissions").status == :ok
      end
    end
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

  describe "the login check shows what the server said before it closed the connection" do
    @tag instance: [name: nil]
    test "with too many clients", %{server: server, client: client} do
      set(client, "maxclients", "1")
      checks = Doctor.check(url: RedisServer.url(server))
      assert detail(checks, "login") == "as default: Redis has as many clients as it accepts"

      assert advice(checks, "login") ==
               "Raise its `maxclients`, or lower `:pool_size`. Redis said: " <>
                 ~s("ERR max number of clients reached")
    end

    test "in protected mode" do
      reply = "-DENIED Redis is running in protected mode because no password is set.\r\n"
      peer = FakeServer.start!([{:send, reply}, :close], at: :login)
      checks = Doctor.check(url: FakeServer.url(peer))
      assert detail(checks, "login") =~ "as default: Redis is in protected mode"
      assert advice(checks, "login") =~ "`requirepass`"
      assert advice(checks, "login") =~ ~s(Redis said: "DENIED Redis is running in protected mode)
    end
  end

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

  describe "the report" do
    test "has one line per check, and its advice", %{server: server, client: client} do
      set(client, "maxmemory-policy", "allkeys-lru")
      set(client, "maxmemory", "100mb")
      {_checks, output} = with_output(url: RedisServer.url(server))
      lines = String.split(output, "\n")
      assert hd(lines) == "Server of the options"
      assert Enum.any?(lines, &(&1 =~ ~r/^  ✓ role           primary$/u))
      warning = Enum.find_index(lines, &(&1 =~ ~r/^  ! eviction       allkeys-lru: /u))
      assert Enum.at(lines, warning + 1) =~ ~r/^ {19}→ `CONFIG SET maxmemory-policy noeviction`/u
      assert "  ✗ 0, ! 1" in lines
    end

    test "names the skipped checks" do
      {_checks, output} = with_output(url: "redis://127.0.0.1:#{Ports.free()}")
      assert output =~ ~r/^  ✗ connection /mu
      assert output =~ "  - skipped, needs connection: TLS, login, server, role, latency, "
      assert output =~ "  ✗ 1, ! 0"
    end

    test "has the name of the instance as its title", %{name: name} do
      output = capture_io(fn -> assert Doctor.run(name: name) == :ok end)
      assert String.starts_with?(output, inspect(name) <> "\n")
      assert output =~ "All checks passed."
    end
  end

  # The checks of a server that does not know these commands.
  defp renamed(commands) do
    arguments = for name <- commands, argument <- ["--rename-command", name, ""], do: argument
    server = RedisServer.start!(arguments)
    {server, Doctor.check(url: RedisServer.url(server))}
  end

  defp secure(certificate, options) do
    port = Ports.free()
    server = RedisServer.start!(Certificates.server_arguments(port, certificate))
    checks = Doctor.check([url: "rediss://localhost:#{port}"] ++ options)
    RedisServer.stop(server)
    checks
  end

  # The checks, and everything printed or inspected.
  defp with_output(options) do
    checks = Doctor.check(options)
    result = if failed(checks) == [], do: :ok, else: :error
    output = capture_io(fn -> assert Doctor.run(options) == result end)
    {checks, output <> inspect(checks, limit: :infinity, printable_limit: :infinity)}
  end

  # A server with that reply to INFO.
  defp start_with_info(info) do
    reply = {:send, "$#{byte_size(info)}\r\n#{info}\r\n"}
    serve(fn command -> if hd(command) == "INFO", do: [reply], else: [:default] end)
  end

  defp serve(function), do: FakeServer.start!([{:serve, function}], at: :login)

  defp set(client, name, value) do
    "OK" = RedisClient.command!(client, ["CONFIG", "SET", name, value])
    :ok
  end

  defp line(info, field) do
    [_, value] = Regex.run(~r/^#{field}:(\d+)/m, info)
    value
  end

  defp doctor_threads do
    Enum.count(File.ls!("/proc/self/task"), fn thread ->
      case File.read("/proc/self/task/#{thread}/comm") do
        {:ok, comm} -> String.starts_with?(comm, ["pow_redis_doc", "pow_redis_dns"])
        {:error, _gone} -> false
      end
    end)
  end
end
