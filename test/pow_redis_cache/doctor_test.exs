defmodule PowRedisCache.DoctorTest do
  # What all checks of the doctor have in common, and its report.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureIO
  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Doctor}

  @moduletag server: []

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
    assert detail(checks, "keys") =~ " 1; 3 keys in total"
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

  defp doctor_threads do
    Enum.count(File.ls!("/proc/self/task"), fn thread ->
      case File.read("/proc/self/task/#{thread}/comm") do
        {:ok, comm} -> String.starts_with?(comm, ["pow_redis_doc", "pow_redis_dns"])
        {:error, _gone} -> false
      end
    end)
  end
end
