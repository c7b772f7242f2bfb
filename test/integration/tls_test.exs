defmodule PowRedisCache.TlsTest do
  use PowRedisCache.TlsCase, async: true

  @moduletag :integration

  import ExUnit.CaptureLog

  alias PowRedisCache.SchedulerStalls

  @no_common_version "Redis supports no version and cipher suite of TLS that this package offers. " <>
                       "Enable TLS 1.2 or 1.3 (`tls-protocols`, `tls-ciphers`), or correct " <>
                       "`:tls_versions`"

  # For calls that must fail. Others use the default timeout.
  @timeout 400

  describe "with a trusted certificate" do
    test "all operations work", %{url: url, ca: ca} do
      config = start(url: url, cacertfile: ca)
      large = String.duplicate("x", 2_000_000)
      assert PowRedisCache.put(config, [{["a", 1], large}, {["a", 2], :small}]) == :ok
      assert PowRedisCache.get(config, ["a", 1]) == large
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", 1], large}, {["a", 2], :small}]
      assert PowRedisCache.delete(config, ["a", 1]) == :ok
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", 2], :small}]
      for i <- 1..200, do: PowRedisCache.put(config, {["b", i], i})
      assert length(PowRedisCache.all(config, ["b", :_])) == 200
    end

    test "an IP address is verified like a host name", %{port: port, ca: ca} do
      config = start(url: "rediss://127.0.0.1:#{port}", cacertfile: ca)
      assert PowRedisCache.put(config, {"key", 1}) == :ok
    end

    test "many concurrent callers work", %{url: url, ca: ca} do
      config = start(url: url, cacertfile: ca)

      1..100
      |> Enum.map(fn number ->
        Task.async(fn ->
          for round <- 1..10 do
            :ok = PowRedisCache.put(config, {["p", number], round})
            ^round = PowRedisCache.get(config, ["p", number])
          end
        end)
      end)
      |> Task.await_many(60_000)
    end

    test "a lost connection is reopened", %{url: url, ca: ca, server: server} do
      config = start(url: url, cacertfile: ca)
      PowRedisCache.put(config, {"key", 1})
      client = RedisClient.connect!(server.port)
      RedisClient.command!(client, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
      assert PowRedisCache.get(config, "key") == 1
      assert PowRedisCache.info(config[:name]).reconnects > 0
    end
  end

  describe "the :tls option" do
    test "overrides the scheme of the URL", %{server: server, port: port, ca: ca} do
      config = start(url: "redis://localhost:#{port}", tls: true, cacertfile: ca)
      assert PowRedisCache.put(config, {"key", 1}) == :ok
      config = start(url: "rediss://localhost:#{server.port}", tls: false)
      assert PowRedisCache.get(config, "key") == 1
    end

    test "that contradicts the server returns an error in time", %{
      port: port,
      server: server,
      ca: ca
    } do
      config = start(url: "redis://localhost:#{port}", timeout: @timeout)
      assert_failure(config, [:disconnected, :timeout, :protocol])
      url = "rediss://localhost:#{server.port}"
      config = start(url: url, cacertfile: ca, timeout: @timeout)
      assert_failure(config, [:tls, :disconnected, :timeout])
    end
  end

  describe "verification" do
    test "rejects a certificate of an unknown authority", %{url: url} do
      assert_rejected([url: url], "unknown_ca", ~r/:cacertfile.*:verify_none/s)
    end

    test "fails each call, not only the first", %{url: url} do
      config = start(url: url, timeout: 3_000)

      for _ <- 1..20 do
        assert {:error, %{reason: :tls, code: "unknown_ca"}} = PowRedisCache.ping(config[:name])
      end

      # Until after the `timeout` of the first call.
      until = System.monotonic_time(:millisecond) + 3_500

      Wait.until(fn ->
        assert {:error, %{reason: :tls}} = PowRedisCache.ping(config[:name])
        System.monotonic_time(:millisecond) > until
      end)
    end

    test "rejects a certificate of another authority than :cacertfile", %{url: url} do
      options = [url: url, cacertfile: Certificates.path(:other_ca)]
      assert_rejected(options, "unknown_ca", ~r/:cacertfile/)
    end

    @no_verification "disable verification with `verify: :verify_none`"

    for {certificate, code, message} <- [
          {:expired, "expired", "the certificate has expired. Renew it, or "},
          {:not_yet_valid, "not_yet_valid",
           "the certificate is not valid yet. Check the clock of this host, or "},
          {:wrong_host, "wrong_host",
           "the certificate does not match the host name. Use the certificate's host name in `:url` or " <>
             "`:server_name`, or "},
          {:no_names, "no_names",
           "the certificate names no host: it has no `subjectAltName`. Issue one with the host name of " <>
             "Redis as its `subjectAltName`, or "},
          {:old_certificate, "old_certificate",
           "the certificate has X.509 version 1. Issue one of version 3, with the host name of Redis " <>
             "as its `subjectAltName`, or "},
          {:wrong_purpose, "wrong_purpose",
           "the certificate is not for servers. Issue one with `serverAuth` in its " <>
             "`extendedKeyUsage`, or "},
          {:ca, "ca_certificate",
           "Redis presents the certificate of an authority as its own. Issue a certificate for Redis " <>
             "that is none of an authority (`CA:FALSE`), or "}
        ] do
      @tag certificate: certificate
      test "tells the problem #{code}", %{url: url, ca: ca} do
        message = unquote(message) <> @no_verification
        assert_problem([url: url, cacertfile: ca], unquote(code), message)
      end
    end

    test "tells that this host has no authorities", %{url: url, server: server} do
      code = """
      {:ok, _} = Application.ensure_all_started(:logger)
      Logger.configure(level: :none)
      {:ok, _} = PowRedisCache.start_link(url: "#{url}")
      {:error, error} = PowRedisCache.ping()
      IO.puts(Exception.message(error))
      """

      empty = Path.join(server.folder, "empty")
      File.mkdir_p!(empty)
      File.write!(Path.join(empty, "none.pem"), "")
      ebin = Application.app_dir(:pow_redis_cache, "ebin")
      env = [{"SSL_CERT_FILE", Path.join(empty, "none.pem")}, {"SSL_CERT_DIR", empty}]

      assert {output, 0} =
               System.cmd("elixir", ["-pa", ebin, "-e", code], env: env, stderr_to_stdout: true)

      assert output ==
               "ping failed: this host has no certificate authorities. Install its package of them " <>
                 "(`ca-certificates`), or set `:cacertfile`\n"
    end
  end

  describe "the :server_name option" do
    @tag certificate: :wrong_host
    test "is verified instead of the host", %{url: url, port: port, ca: ca} do
      by_address = "rediss://127.0.0.1:#{port}"

      for url <- [url, by_address] do
        config = start(url: url, cacertfile: ca, server_name: "redis.example")
        assert PowRedisCache.put(config, {"key", 1}) == :ok
        assert_rejected([url: url, cacertfile: ca], "wrong_host", ~r/`:server_name`/)
      end
    end

    test "is the only name that is accepted", %{url: url, ca: ca} do
      for name <- ["redis.example", "127.0.0.2"] do
        options = [url: url, cacertfile: ca, server_name: name]
        assert_rejected(options, "wrong_host", ~r/does not match/)
      end

      config = start(url: url, cacertfile: ca, server_name: "127.0.0.1")
      assert PowRedisCache.put(config, {"key", 1}) == :ok
    end

    test "is told to the server", %{ca: ca} do
      test = self()

      certificate = [
        certfile: Certificates.path(:wrong_host),
        keyfile: Certificates.key(:wrong_host)
      ]

      options = [
        ip: {127, 0, 0, 1},
        sni_fun: fn name ->
          send(test, {:server_name, name})
          certificate
        end
      ]

      {:ok, listener} = :ssl.listen(0, options)
      {:ok, {_address, port}} = :ssl.sockname(listener)

      start_supervised!(
        {Task,
         fn ->
           {:ok, socket} = :ssl.transport_accept(listener)
           :ssl.handshake(socket)
         end}
      )

      start(url: "rediss://127.0.0.1:#{port}", cacertfile: ca, server_name: "redis.example")
      assert_receive {:server_name, ~c"redis.example"}, 60_000
    end
  end

  describe "the :tls_versions option" do
    for {protocol, version, other} <- [
          {"TLSv1.2", :"tlsv1.2", :"tlsv1.3"},
          {"TLSv1.3", :"tlsv1.3", :"tlsv1.2"}
        ] do
      @tag tls_protocols: protocol
      test "decides whether #{protocol} is used", %{url: url, ca: ca} do
        for versions <- [[unquote(version)], [unquote(other), unquote(version)]] do
          config = start(url: url, cacertfile: ca, tls_versions: versions)
          assert PowRedisCache.put(config, {"key", 1}) == :ok
        end

        options = [url: url, cacertfile: ca, tls_versions: [unquote(other)]]
        assert_problem(options, "no_common_version", @no_common_version)
      end
    end
  end

  describe "verify: :verify_none" do
    for certificate <- [:server, :expired, :wrong_host] do
      @tag certificate: certificate
      test "accepts the #{certificate} certificate and warns once", %{url: url} do
        log =
          capture_log(fn ->
            config = start(url: url, verify: :verify_none)
            for i <- 1..5, do: assert(PowRedisCache.put(config, {"key", i}) == :ok)
            send(self(), {:started, config[:name]})
          end)

        assert_received {:started, name}
        own = log |> String.split("\n") |> Enum.filter(&(&1 =~ inspect(name)))
        assert [line] = Enum.filter(own, &(&1 =~ "verify_none"))
        assert line =~ "[warning]"
      end
    end

    test "is not the default", %{url: url, ca: ca} do
      log =
        capture_log(fn ->
          config = start(url: url, cacertfile: ca)
          PowRedisCache.put(config, {"key", 1})
          send(self(), {:started, config[:name]})
        end)

      assert_received {:started, name}
      refute Enum.any?(String.split(log, "\n"), &(&1 =~ inspect(name) and &1 =~ "verify_none"))
    end
  end

  describe "certificate files" do
    test "that cannot be used return an error", %{url: url, ca: ca, server: server} do
      client = Certificates.path(:client)
      key = Certificates.key(:client)
      broken = Certificates.path(:broken)
      encrypted = Certificates.key(:encrypted)
      server_key = Certificates.key(:server)

      for {options, code, message} <- [
            {[cacertfile: "/nonexistent.pem"], "certificate_file",
             "the file /nonexistent.pem (`:cacertfile`) does not exist. Correct `:cacertfile`"},
            {[cacertfile: server.folder], "certificate_file",
             "the file #{server.folder} (`:cacertfile`) cannot be read. Check its permissions, or " <>
               "correct `:cacertfile`"},
            {[cacertfile: broken], "certificate_file",
             "the file #{broken} (`:cacertfile`) contains no certificate in PEM format. Correct " <>
               "`:cacertfile`"},
            {[cacertfile: ca, certfile: "/nonexistent.pem", keyfile: key], "certificate_file",
             "the file /nonexistent.pem (`:certfile`) does not exist. Correct `:certfile`"},
            {[cacertfile: ca, certfile: key, keyfile: key], "certificate_file",
             "the file #{key} (`:certfile`) contains no certificate in PEM format. Correct `:certfile`"},
            {[cacertfile: ca, certfile: client, keyfile: "/nonexistent.key"], "certificate_file",
             "the file /nonexistent.key (`:keyfile`) does not exist. Correct `:keyfile`"},
            {[cacertfile: ca, certfile: client, keyfile: broken], "certificate_file",
             "the file #{broken} (`:keyfile`) contains no private key in PEM format. Correct `:keyfile`"},
            {[cacertfile: ca, certfile: client, keyfile: encrypted], "encrypted_key",
             "the file #{encrypted} (`:keyfile`) has a passphrase. Remove it with `openssl pkey`, " <>
               "and set `:keyfile` to the result"},
            {[cacertfile: ca, certfile: client, keyfile: server_key], "key_mismatch",
             "the file #{server_key} (`:keyfile`) is not the key of the certificate. Set " <>
               "`:certfile` and `:keyfile` to a pair"}
          ] do
        assert_problem([url: url] ++ options, code, message)
      end
    end

    test "are read again at each connect", %{url: url, ca: ca, server: server} do
      file = Path.join(server.folder, "ca.pem")
      File.cp!(Certificates.path(:other_ca), file)
      config = start(url: url, cacertfile: file)
      assert {:error, %{reason: :tls}} = PowRedisCache.ping(config[:name])
      File.cp!(ca, file)
      Wait.until(fn -> PowRedisCache.ping(config[:name]) == :ok end)
    end
  end

  describe "a port" do
    test "without TLS is told", %{ca: ca} do
      port = reply_slowly("-ERR unknown command\r\n")

      assert_problem(
        [url: "rediss://127.0.0.1:#{port}", cacertfile: ca],
        "not_tls",
        "the server does not use TLS at this port. Use `redis://` or `tls: false`, or correct the " <>
          "port in `:url`"
      )
    end

    test "with TLS is told, if the server sends an alert" do
      port = reply_slowly(<<21, 3, 1, 0, 2, 2, 70>>)

      assert_problem(
        [url: "redis://127.0.0.1:#{port}"],
        "tls_required",
        "the server uses TLS at this port. Use `rediss://` or `tls: true`, or correct the port in " <>
          "`:url`"
      )
    end

    test "with another version of TLS is told", %{ca: ca} do
      # A fatal alert: protocol_version.
      port = reply_slowly(<<21, 3, 1, 0, 2, 2, 70>>)

      assert_problem(
        [url: "rediss://127.0.0.1:#{port}", cacertfile: ca],
        "no_common_version",
        @no_common_version
      )
    end
  end

  describe "the deadline holds" do
    test "while the handshake gets no reply" do
      {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1}, backlog: 16)
      {:ok, port} = :inet.port(listener)
      url = "rediss://127.0.0.1:#{port}"
      config = start(url: url, cacertfile: Certificates.path(:ca), timeout: @timeout)
      assert_failure(config, [:timeout, :disconnected, :tls])
    end

    test "while the handshake reply comes byte by byte" do
      # The header of a long TLS record that is never completed.
      port = reply_slowly(<<22, 3, 3, 64, 0>> <> String.duplicate(<<0>>, 10_000))
      url = "rediss://127.0.0.1:#{port}"
      config = start(url: url, cacertfile: Certificates.path(:ca), timeout: @timeout)
      assert_failure(config, [:timeout, :disconnected, :tls])
    end

    test "with garbage instead of a handshake" do
      port = reply_slowly("HTTP/1.1 400 Bad Request\r\n\r\n")
      url = "rediss://127.0.0.1:#{port}"
      config = start(url: url, cacertfile: Certificates.path(:ca), timeout: @timeout)
      assert_failure(config, [:timeout, :disconnected, :tls])
    end
  end

  test "invalid options raise at start" do
    for {options, message} <- [
          {[certfile: "client.pem"], ~r/keyfile/},
          {[keyfile: "client.key"], ~r/certfile/},
          {[verify: :none], ~r/:verify/},
          {[tls: "yes"], ~r/:tls/},
          {[cacertfile: :ca], ~r/:cacertfile/},
          {[server_name: "https://host"], ~r/:server_name/},
          {[tls_versions: [:tlsv1]], ~r/:tls_versions/}
        ] do
      assert_raise ArgumentError, message, fn -> PowRedisCache.start_link(options) end
    end
  end

  defp assert_rejected(options, code, message) do
    config = start(options)
    error = catch_error(PowRedisCache.put(config, {"key", 1}))
    assert %PowRedisCache.Error{reason: :tls, code: ^code, operation: :put} = error
    assert Exception.message(error) =~ message
  end

  defp assert_failure(config, reasons) do
    {result, took} = SchedulerStalls.time(fn -> PowRedisCache.ping(config[:name]) end)
    assert {:error, %PowRedisCache.Error{reason: reason}} = result
    assert reason in reasons
    assert took < @timeout + 1_000
  end

  # Accepts connections and sends these bytes to each, one every few milliseconds.
  defp reply_slowly(bytes) do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false])
    {:ok, port} = :inet.port(listener)
    start_supervised!({Task, fn -> accept(listener, bytes) end}, id: make_ref())
    port
  end

  defp accept(listener, bytes) do
    with {:ok, socket} <- :gen_tcp.accept(listener) do
      pid = spawn_link(fn -> trickle(socket, bytes) end)
      :gen_tcp.controlling_process(socket, pid)
      accept(listener, bytes)
    end
  end

  defp trickle(socket, <<byte, rest::binary>>) do
    with :ok <- :gen_tcp.send(socket, <<byte>>) do
      Process.sleep(5)
      trickle(socket, rest)
    end
  end

  defp trickle(socket, ""), do: :gen_tcp.recv(socket, 0)
end
