defmodule PowRedisCache.DoctorTest do
  # What the doctor says of real servers, one illness at a time.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureIO
  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Certificates, Doctor, FakeServer, SchedulerStalls}

  @moduletag server: []

  @password "s3cret-p4ssword"

  test "a healthy server", %{server: server, name: name, config: config} do
    PowRedisCache.put(config, {["a", 1], 1})
    checks = Doctor.check(name: name)
    assert Enum.reject(checks, &(&1.status == :ok)) == []
    assert detail(checks, "location") == "127.0.0.1:#{server.port}"
    assert detail(checks, "DNS") =~ ~r/^127\.0\.0\.1 in [\d.]+ ms$/
    assert detail(checks, "server") == PowRedisCache.info(name).version
    assert detail(checks, "role") == "master"
    assert detail(checks, "latency") =~ ~r/^median [\d.]+ ms, slowest [\d.]+ ms of 100 pings$/
    assert detail(checks, "clock") =~ ~r/^-?\d+ ms apart$/
    assert detail(checks, "library") =~ ~r/^0\.\d+\.\d+ for \S+-\S+, .*pow_redis_nif\.so$/
    assert detail(checks, "keys") =~ "1 in the index and 0 not; 3 keys in all"
    assert detail(checks, "index") == "2 sets with 2 members, 0 of them expired"
    # The instance's own two, and the doctor's.
    assert detail(checks, "clients") =~ ~r/^\d+ of \d+ connected, pool_size is 2$/
  end

  test "nothing is written, and nothing is left behind", %{server: server, client: client} do
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
    # What the server's process says is not ours.
    assert Enum.reject(messages, &match?({port, _} when is_port(port), &1)) == []
    Wait.until(fn -> doctors_threads() == 0 end)
  end

  describe "the way to the server" do
    test "of a host that nobody knows" do
      # Too long a name, of which no name server is asked.
      nobody = String.duplicate("x", 64)
      checks = Doctor.check(url: "redis://:#{@password}@#{nobody}")
      assert failed(checks) == ["DNS"]
      assert detail(checks, "DNS") == "#{nobody} has no address"
      assert advice(checks, "DNS") =~ ":url"
      assert skipped(checks) |> hd() == "connection"
      assert detail(checks, "index") == "needs DNS"
    end

    test "on which nobody listens" do
      port = Ports.free()
      checks = Doctor.check(url: "redis://127.0.0.1:#{port}")
      assert failed(checks) == ["connection"]
      assert detail(checks, "connection") =~ "127.0.0.1:#{port} refuses connections"
      assert detail(checks, "login") == "needs connection"
    end

    test "to a socket", %{server: server} do
      checks = Doctor.check(url: "unix://#{server.folder}/nobody.sock")
      assert detail(checks, "DNS") =~ "not needed"
      assert failed(checks) == ["connection"]
    end

    test "that says nothing, in time" do
      peer = FakeServer.start!([:silence], at: :login)
      options = [url: FakeServer.url(peer), connect_timeout: 1_000]
      {checks, took} = SchedulerStalls.time(fn -> Doctor.check(options) end)
      assert took < 5_000
      assert failed(checks) == ["login"]
      assert detail(checks, "login") == "no answer within 1000 ms"
    end

    test "that ends halfway" do
      greeting = [:default, :next, :default, :next, :default, :next, :default]
      peer = FakeServer.start!(greeting ++ [:next, :close], at: :login)
      checks = Doctor.check(url: FakeServer.url(peer))
      assert failed(checks) == ["latency"]
      assert detail(checks, "permissions") == "needs latency"
    end

    test "that a function names, or fails to", %{server: server} do
      assert failed(Doctor.check(url: fn -> RedisServer.url(server) end)) == []

      checks = Doctor.check(url: fn -> raise @password end)
      assert failed(checks) == ["location"]
      assert detail(checks, "location") =~ "the function for `:url`"

      # It passes for a URL, but has no number for the database.
      for url <- ["redis://ann:#{@password}@host/x", fn -> "redis://ann:#{@password}@host/x" end] do
        checks = Doctor.check(url: url)
        assert [failed] = failed(checks)
        assert detail(checks, failed) =~ "is not the URL of a Redis server"
        refute inspect(checks) =~ @password
      end
    end

    test "that the options do not describe" do
      for options <- [[url: "http://ann:#{@password}@host"], [url: "redis://h", pool: 1]] do
        checks = Doctor.check(options)
        assert failed(checks) == ["configuration"]
        assert hd(skipped(checks)) == "location"
        refute inspect(checks) =~ @password
      end
    end

    test "of an instance that does not run" do
      checks = Doctor.check(name: :nobody)
      assert failed(checks) == ["configuration"]
      assert detail(checks, "configuration") == ":nobody does not run in this VM"
      assert advice(checks, "configuration") =~ "--url"
    end
  end

  describe "the login" do
    @describetag instance: [name: nil]

    setup %{client: client}, do: set(client, "requirepass", @password)

    test "with a wrong password, which does not show", %{server: server} do
      url = "redis://ann:not-#{@password}@127.0.0.1:#{server.port}"
      {checks, output} = with_output(url: url)
      assert failed(checks) == ["login"]
      assert detail(checks, "login") =~ "as ann: Redis refused user or password (WRONGPASS)"
      assert advice(checks, "login") =~ ":url"
      refute output =~ @password
    end

    test "without a password", %{server: server} do
      checks = Doctor.check(url: RedisServer.url(server))
      assert detail(checks, "login") =~ "NOAUTH"
    end

    test "with the password of an instance, which does not show", %{server: server} do
      name = unique_name()
      options = [name: name, url: RedisServer.url(server), password: @password]
      start_supervised!({PowRedisCache, options})
      {checks, output} = with_output(name: name)
      assert failed(checks) == []
      refute output =~ @password
      state = :sys.get_state(name)
      refute inspect(state, limit: :infinity, printable_limit: :infinity) =~ @password
    end

    test "to a database that is not there", %{server: server} do
      checks = Doctor.check(url: RedisServer.url(server), password: @password, database: 99)
      assert failed(checks) == ["login"]
      assert detail(checks, "login") == "user and password are right, the database is refused"
    end
  end

  test "a password where the server has none", %{server: server} do
    checks = Doctor.check(url: "redis://:#{@password}@127.0.0.1:#{server.port}")
    assert failed(checks) == ["login"]
    assert advice(checks, "login") =~ "Leave the password out"
  end

  describe "TLS" do
    @describetag instance: [name: nil]

    test "that is verified" do
      checks = secure(:server, cacertfile: Certificates.path(:ca))
      assert failed(checks) == []

      assert detail(checks, "TLS") =~
               ~r/^verified; issued by ca of tests, expires 20\d\d-\d\d-\d\d$/

      # Those of the tests live for ten days.
      assert advice(checks, "TLS") =~ ~r/Renew it: it ends in (9|10) days/
    end

    test "with a certificate that is not valid" do
      for {certificate, options, found} <- [
            {:server, [], "nobody whom we trust has signed"},
            {:expired, [cacertfile: Certificates.path(:ca)], "has expired"},
            {:wrong_host, [cacertfile: Certificates.path(:ca)], "is another host's"}
          ] do
        checks = secure(certificate, options)
        assert failed(checks) == ["TLS"]
        assert detail(checks, "TLS") =~ found
        assert detail(checks, "TLS") =~ "issued by ca of tests, expires "
        assert advice(checks, "TLS") =~ "verify: :verify_none"
        assert detail(checks, "login") == "needs TLS"
      end

      checks = secure(:expired, cacertfile: Certificates.path(:ca))
      # A day before it was made, which may have been yesterday.
      assert [_, date] = Regex.run(~r/expires ([\d-]+)/, detail(checks, "TLS"))
      assert Date.diff(Date.utc_today(), Date.from_iso8601!(date)) in 1..2
    end

    test "that is not verified" do
      checks = secure(:expired, verify: :verify_none)
      assert %{status: :warning} = check(checks, "TLS")
      assert detail(checks, "TLS") =~ "not verified; issued by ca of tests, expires "
      assert advice(checks, "TLS") =~ ":cacertfile"
      assert failed(checks) == []
    end

    test "where the server does not speak it", %{server: server} do
      checks = Doctor.check(url: "rediss://127.0.0.1:#{server.port}", connect_timeout: 1_000)
      assert failed(checks) == ["TLS"]
      assert detail(checks, "TLS") == "no answer to the handshake within 1000 ms"
      assert advice(checks, "TLS") =~ "redis://"
    end

    test "that asks for our certificate" do
      port = Ports.free()
      arguments = Certificates.server_arguments(port, :server, ["--tls-auth-clients", "yes"])
      server = RedisServer.start!(arguments)
      options = [url: "rediss://localhost:#{port}", cacertfile: Certificates.path(:ca)]
      # Who is hung up on before it has read why is told something else.
      Wait.until(fn ->
        checks = Doctor.check(options)
        assert [failed] = failed(checks)
        assert failed in ["TLS", "login"]
        advice(checks, failed) =~ ":certfile"
      end)

      own = [certfile: Certificates.path(:client), keyfile: Certificates.key(:client)]
      assert failed(Doctor.check(options ++ own)) == []
      RedisServer.stop(server)
    end
  end

  test "a replica", %{server: server, client: client} do
    "OK" = RedisClient.command!(client, ["REPLICAOF", "127.0.0.1", Ports.free()])
    checks = Doctor.check(url: RedisServer.url(server))
    assert failed(checks) == ["role"]
    assert detail(checks, "role") == "replica: it takes no writes"
    assert advice(checks, "role") =~ "master"
    # What does not depend on it is looked at.
    assert check(checks, "index").status == :ok
  end

  describe "memory" do
    test "that Redis makes room in", %{server: server, client: client} do
      set(client, "maxmemory-policy", "allkeys-lru")
      assert check(Doctor.check(url: RedisServer.url(server)), "eviction").status == :ok
      set(client, "maxmemory", "100mb")
      checks = Doctor.check(url: RedisServer.url(server))
      assert warned(checks) == ["eviction"]
      assert detail(checks, "eviction") =~ "allkeys-lru"
      assert advice(checks, "eviction") =~ "maxmemory-policy noeviction"
      assert detail(checks, "memory") =~ ~r/^[\d.]+ MB of 100\.0 MB used$/
      # Full, as it is there for good.
      set(client, "maxmemory", "1")
      assert warned(Doctor.check(url: RedisServer.url(server))) == ["eviction"]
    end

    test "of which little or nothing is left", %{server: server, client: client} do
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

  test "more connections than the server has", %{server: server, client: client} do
    set(client, "maxclients", "10")
    checks = Doctor.check(url: RedisServer.url(server), pool_size: 9)
    assert warned(checks) == ["clients"]
    assert detail(checks, "clients") =~ "of 10 connected, pool_size is 9"

    assert check(Doctor.check(url: RedisServer.url(server), pool_size: 2), "clients").status ==
             :ok
  end

  describe "a user" do
    @describetag instance: [name: nil]

    test "who lacks permissions gets the line that gives them", %{server: server, client: client} do
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
        assert detail(checks, "permissions") == "ann may run all commands that are used"
      end
    end

    test "is told what is lacking, and no more is given", %{server: server, client: client} do
      rules = ["~*", "+@all", "-zadd", "-set"]
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "on", "nopass" | rules])
      checks = Doctor.check(url: "redis://ann:x@127.0.0.1:#{server.port}")
      assert detail(checks, "permissions") == "ann may not run SET, ZADD"

      assert advice(checks, "permissions") ==
               "Run on the server: `ACL SETUSER ann +del +exists +get +pexpire +ping +pttl +renamenx " <>
                 "+scan +set +time +zadd +zrem +zremrangebyscore +zscan +zscore`"

      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "resetkeys", "~other"])
      checks = Doctor.check(url: "redis://ann:x@127.0.0.1:#{server.port}")
      assert detail(checks, "permissions") == "ann may not run SET, ZADD, nor use the keys"
      assert advice(checks, "permissions") =~ "ACL SETUSER ann ~g* ~_index:* +del "
    end

    test "may do with that line all that is done", %{server: server, client: client} do
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

    test "who may not ask the server about itself", %{server: server, client: client} do
      rules = ["~*", "+@all", "-info"]
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "on", "nopass" | rules])
      checks = Doctor.check(url: "redis://ann:x@127.0.0.1:#{server.port}")
      assert warned(checks) == ["server"]
      assert advice(checks, "server") =~ "ACL SETUSER ann +info"
      assert skipped(checks) == ["role", "memory", "eviction", "clients"]
      assert detail(checks, "memory") == "needs server"
    end
  end

  describe "a server" do
    @describetag instance: [name: nil]

    # Login, who we are, and then what the server says of itself.
    @greeting [:default, :next, :default, :next, :default, :next]

    test "that is too old" do
      for {version, status} <- [{"6.2.14", :error}, {"7.0.0", :ok}, {"10.0.1", :ok}] do
        peer =
          FakeServer.start!(@greeting ++ [info("redis_version:#{version}"), :next, :serve],
            at: :login
          )

        checks = Doctor.check(url: FakeServer.url(peer))
        assert %{status: ^status, detail: "Redis " <> _} = check(checks, "server")
      end

      peer =
        FakeServer.start!(@greeting ++ [info("redis_version:6.2.14"), :next, :serve], at: :login)

      checks = Doctor.check(url: FakeServer.url(peer))
      assert failed(checks) == ["server"]
      assert detail(checks, "server") =~ "Redis 6.2.14 is too old"
      assert advice(checks, "server") == "Use Redis 7.0 or later, or Valkey."
    end

    test "of another kind" do
      for {mode, option} <- [{"cluster", ":cluster"}, {"sentinel", ":sentinel"}] do
        said = info("redis_version:7.0.15\r\nredis_mode:#{mode}")
        peer = FakeServer.start!(@greeting ++ [said, :next, :serve], at: :login)
        checks = Doctor.check(url: FakeServer.url(peer))
        assert failed(checks) == ["server"]
        assert advice(checks, "server") == "Use #{option} in place of :url."
      end
    end

    test "whose clock differs" do
      # The server thinks that it is November 2023.
      time = {:send, "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"}
      pings = List.duplicate([:next, :default], 100) |> Enum.concat()

      peer =
        FakeServer.start!(@greeting ++ [:default] ++ pings ++ [:next, time, :next, :serve],
          at: :login
        )

      checks = Doctor.check(url: FakeServer.url(peer))
      assert "clock" in warned(checks)
      assert detail(checks, "clock") =~ ~r/^the server's is \d{11,} ms behind this host's$/
      assert advice(checks, "clock") =~ "NTP"
    end

    test "that plays with the terminal" do
      peer =
        FakeServer.start!(@greeting ++ [info("redis_version:8\e[2J"), :next, :serve], at: :login)

      checks = Doctor.check(url: FakeServer.url(peer))
      assert detail(checks, "server") == "Redis 8?[2J"
    end
  end

  describe "the report" do
    test "has a line a check, and what to do", %{server: server, client: client} do
      set(client, "maxmemory-policy", "allkeys-lru")
      set(client, "maxmemory", "100mb")
      {_checks, output} = with_output(url: RedisServer.url(server))
      lines = String.split(output, "\n")
      assert hd(lines) == "The server that the options name"
      assert Enum.any?(lines, &(&1 =~ ~r/^  ✓ role           master$/u))
      warning = Enum.find_index(lines, &(&1 =~ ~r/^  ! eviction       allkeys-lru: /u))
      assert Enum.at(lines, warning + 1) =~ ~r/^ {19}→ `CONFIG SET maxmemory-policy noeviction`/u
      assert "  ✗ 0, ! 1" in lines
    end

    test "names what was skipped" do
      {_checks, output} = with_output(url: "redis://127.0.0.1:#{Ports.free()}")
      assert output =~ ~r/^  ✗ connection /mu
      assert output =~ "  - skipped, as it needs connection: TLS, login, server, role, latency, "
      assert output =~ "  ✗ 1, ! 0"
    end

    test "is about an instance under its name", %{name: name} do
      output = capture_io(fn -> assert Doctor.run(name: name) == :ok end)
      assert String.starts_with?(output, inspect(name) <> "\n")
      assert output =~ "All is well."
    end
  end

  defp secure(certificate, options) do
    port = Ports.free()
    server = RedisServer.start!(Certificates.server_arguments(port, certificate))
    checks = Doctor.check([url: "rediss://localhost:#{port}"] ++ options)
    RedisServer.stop(server)
    checks
  end

  # The checks, and what is printed of them.
  defp with_output(options) do
    checks = Doctor.check(options)
    answer = if failed(checks) == [], do: :ok, else: :error
    output = capture_io(fn -> assert Doctor.run(options) == answer end)
    {checks, output <> inspect(checks, limit: :infinity, printable_limit: :infinity)}
  end

  defp info(text), do: {:send, "$#{byte_size(text)}\r\n#{text}\r\n"}

  defp set(client, name, value) do
    "OK" = RedisClient.command!(client, ["CONFIG", "SET", name, value])
    :ok
  end

  defp line(info, field) do
    [_, value] = Regex.run(~r/^#{field}:(\d+)/m, info)
    value
  end

  defp doctors_threads do
    Enum.count(File.ls!("/proc/self/task"), fn thread ->
      case File.read("/proc/self/task/#{thread}/comm") do
        {:ok, comm} -> String.starts_with?(comm, ["pow_redis_exam", "pow_redis_dns"])
        {:error, _gone} -> false
      end
    end)
  end
end
