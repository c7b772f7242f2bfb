defmodule PowRedisCache.DoctorTaskTest do
  # The doctor as a Mix task and without Mix, each time in a new VM.
  use ExUnit.Case, async: true

  @moduletag :integration

  alias PowRedisCache.{Certificates, Ports, RedisServer}

  @root Path.expand("../../..", __DIR__)
  @password "s3cret-p4ssword"

  setup_all do
    server = RedisServer.start!()
    on_exit(fn -> RedisServer.stop(server) end)
    [url: RedisServer.url(server), port: server.port]
  end

  describe "mix pow_redis_cache.doctor" do
    test "checks the running instances of the app", %{url: url} do
      start = """
      {:ok, _} = PowRedisCache.start_link(url: "#{url}")
      {:ok, _} = PowRedisCache.start_link(url: "#{url}/1", name: MyApp.Sessions)
      """

      assert {output, 0} = mix(["do", "run", "-e", start, "+", "pow_redis_cache.doctor"])
      assert titles(output) == ["MyApp.Sessions", "PowRedisCache"]
      assert length(String.split(output, "All checks passed.")) == 3

      doctor = ["pow_redis_cache.doctor", "--name", "MyApp.Sessions"]
      assert {output, 0} = mix(["do", "run", "-e", start, "+"] ++ doctor)
      assert titles(output) == ["MyApp.Sessions"]
    end

    test "with --url does not start the app, and exits with its status", %{url: url} do
      assert {output, 0} = mix(["pow_redis_cache.doctor", "--url", url])
      assert output =~ "Server of the options\n"
      assert output =~ "All checks passed."

      unreachable = "redis://:#{@password}@127.0.0.1:#{Ports.free()}"
      assert {output, 1} = mix(["pow_redis_cache.doctor", "--url", unreachable])
      assert output =~ ~r/^  ✗ connection /mu
      refute output =~ @password
    end

    test "passes on --cacertfile and --no-verify", %{port: port} do
      url = "rediss://127.0.0.1:#{port}"
      arguments = ["pow_redis_cache.doctor", "--url", url, "--cacertfile", "/nonexistent.pem"]
      assert {output, 1} = mix(arguments)
      assert output =~ ":cacertfile"
      # Without verification, the file is not read. The server does not use TLS.
      assert {output, 1} = mix(arguments ++ ["--no-verify"])
      assert output =~ "✗ TLS            no reply to the handshake"
    end

    test "without an instance gives advice, or checks the server of REDIS_URL", %{url: url} do
      assert {output, 1} = mix(["pow_redis_cache.doctor"], [{"REDIS_URL", nil}])
      assert titles(output) == ["No instance is running."]
      assert output =~ "`mix pow_redis_cache.doctor --url redis://…`"

      assert {output, 0} = mix(["pow_redis_cache.doctor"], [{"REDIS_URL", url}])
      assert titles(output) == ["No instance is running: server of REDIS_URL"]

      # --name ignores REDIS_URL.
      arguments = ["pow_redis_cache.doctor", "--name", "MyApp.Sessions"]
      assert {output, 1} = mix(arguments, [{"REDIS_URL", url}])
      assert output =~ "MyApp.Sessions is not running in this VM"
    end

    test "does not show invalid arguments" do
      for arguments <- [
            ["--ulr", "redis://:#{@password}@localhost"],
            ["redis://:#{@password}@localhost"],
            ["--no-verify"]
          ] do
        assert {output, 1} = mix(["pow_redis_cache.doctor" | arguments])
        assert output =~ "(Mix) expected --"
        refute output =~ @password
      end
    end

    test "uses colours only on a terminal", %{url: url} do
      assert {output, 0} = mix(["pow_redis_cache.doctor", "--url", url])
      # Mix itself may reset a colour.
      refute output =~ ~r/\e\[[^0]/
      # Makes Elixir treat standard output as a terminal.
      terminal = [{"ELIXIR_ERL_OPTIONS", "-elixir ansi_enabled true"}]
      assert {output, 0} = mix(["pow_redis_cache.doctor", "--url", url], terminal)
      assert output =~ "\e[32m✓\e[0m"
    end
  end

  describe "without Mix" do
    test "runs as a function", %{url: url} do
      # Code paths without Mix.
      folders =
        for app <- [:elixir, :logger, :pow_redis_cache], do: Application.app_dir(app, "ebin")

      code = """
      {ok, _} = application:ensure_all_started(elixir),
      non_existing = code:which('Elixir.Mix'),
      ok = 'Elixir.PowRedisCache.Doctor':run([{url, <<"#{url}">>}]),
      halt().
      """

      assert {output, 0} = run("erl", ["-noshell", "-pa"] ++ folders ++ ["-eval", code], [])
      assert output =~ "All checks passed."

      assert {output, 0} = elixir("IO.inspect(PowRedisCache.Doctor.run())", [{"REDIS_URL", nil}])
      assert output =~ "No instance is running."
      assert output =~ ~r/:error$/
    end

    test "omits the issuer of a certificate if :public_key is missing" do
      port = Ports.free()
      server = RedisServer.start!(Certificates.server_arguments(port))
      options = [url: "rediss://localhost:#{port}", cacertfile: Certificates.path(:ca)]
      doctor = "PowRedisCache.Doctor.run(#{inspect(options)})"
      without = ":code.del_path(:public_key); false = Code.ensure_loaded?(:public_key); "
      assert {output, 0} = elixir(without <> doctor)
      assert output =~ ~r/^  ✓ TLS            verified$/mu
      assert {output, 0} = elixir(doctor)
      assert output =~ "verified; issued by ca of tests"
      RedisServer.stop(server)
    end
  end

  defp titles(output) do
    for line <- String.split(output, "\n"), line =~ ~r/^[A-Z]/, do: line
  end

  defp mix(arguments, environment \\ []), do: run("mix", arguments, environment)

  defp elixir(code, environment \\ []) do
    ebin = Application.app_dir(:pow_redis_cache, "ebin")
    run("elixir", ["-pa", ebin, "-e", code], environment)
  end

  defp run(program, arguments, environment) do
    System.cmd(program, arguments,
      cd: @root,
      env: [{"MIX_ENV", "test"} | environment],
      stderr_to_stdout: true
    )
  end
end
