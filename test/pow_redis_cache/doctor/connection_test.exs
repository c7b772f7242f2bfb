defmodule PowRedisCache.Doctor.ConnectionTest do
  # The doctor's checks from the options to the login.
  use PowRedisCache.Case, async: true

  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Certificates, Commands, Doctor, FakeServer, SchedulerStalls}

  @moduletag server: []

  @password "s3cret-p4ssword"

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

    test "fails if the user may not select the database, with the rule that permits it", %{
      server: server,
      client: client
    } do
      "OK" = RedisClient.command!(client, ["AUTH", @password])
      rules = Commands.key_rules() ++ Commands.acl_rules(:standalone)
      "OK" = RedisClient.command!(client, ["ACL", "SETUSER", "ann", "on", ">pw" | rules])
      url = "redis://ann:pw@127.0.0.1:#{server.port}/3"
      checks = Doctor.check(url: url)
      assert failed(checks) == ["login"]

      assert advice(checks, "login") ==
               "Run on the server: `ACL SETUSER ann +select`, or use database 0."

      "OK" = RedisClient.command!(client, ~w(ACL SETUSER ann +select))
      assert failed(Doctor.check(url: url)) == []
    end
  end

  test "the login check suggests removing the password if the server has none", %{server: server} do
    checks = Doctor.check(url: "redis://:#{@password}@127.0.0.1:#{server.port}")
    assert failed(checks) == ["login"]
    assert advice(checks, "login") =~ "Remove the password"
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

  defp secure(certificate, options) do
    port = Ports.free()
    server = RedisServer.start!(Certificates.server_arguments(port, certificate))
    checks = Doctor.check([url: "rediss://localhost:#{port}"] ++ options)
    RedisServer.stop(server)
    checks
  end
end
