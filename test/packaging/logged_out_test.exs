defmodule PowRedisCache.LoggedOutTest do
  # What guides/logged_out.md tells people to type and to look for is there.
  use PowRedisCache.Case, async: true

  @moduletag server: []

  @page File.read!(Path.expand("../../guides/logged_out.md", __DIR__))

  defp redis_cli(server, arguments) do
    System.cmd("redis-cli", ["-p", "#{server.port}" | arguments], stderr_to_stdout: true)
  end

  test "each command of redis-cli shows what is to be looked for", %{server: server} do
    # Redis lists only commands that were called.
    for command <- ["FLUSHALL", "FLUSHDB", "SET key value"] do
      assert {"OK\n", 0} = redis_cli(server, String.split(command))
    end

    commands = Regex.scan(~r/`redis-cli ([A-Za-z ]+)`(?:: ((?:`[a-z_]+`(?:, )?)+))?/, @page)
    assert length(commands) > 8

    for [_all, command | fields] <- commands do
      assert {output, 0} =
               redis_cli(server, command |> String.replace("KEY", "key") |> String.split())

      assert output =~ ~r/\A(?!ERR).+/, command
      for [_, field] <- Regex.scan(~r/`(\w+)`/, Enum.join(fields)), do: assert(output =~ field)
    end
  end

  test "second_repl_offset tells of a replica that took over", %{server: server} do
    offset = fn ->
      {output, 0} = redis_cli(server, ["INFO", "replication"])
      [_, offset] = Regex.run(~r/second_repl_offset:(-?\d+)/, output)
      offset
    end

    assert offset.() == "-1"

    assert {"OK\n", 0} = redis_cli(server, ["REPLICAOF", "127.0.0.1", "#{Ports.free()}"])

    assert {"OK\n", 0} = redis_cli(server, ["REPLICAOF", "NO", "ONE"])
    refute offset.() == "-1"
  end

  test "the pattern finds the sessions, and the call those of a user", context do
    %{config: config, server: server} = context
    config = Keyword.put(config, :namespace, "credentials")
    [_, pattern] = Regex.run(~r/--pattern '([^']+)'/, @page)
    assert {"", 0} = redis_cli(server, ["--scan", "--pattern", pattern])
    session = [MyApp.Users.User, :user, 1, :session, "s"]
    PowRedisCache.put(config, {session, 1})
    PowRedisCache.put(Keyword.put(config, :namespace, "persistent_session"), {"s", 1})
    assert {output, 0} = redis_cli(server, ["--scan", "--pattern", pattern])
    assert [_one] = String.split(output)

    [_, code] = Regex.run(~r/```elixir\n(.*?)```/s, @page)
    code = String.replace(code, "[namespace:", "[name: #{inspect(context.name)}, namespace:")
    assert {[{^session, 1}], _binding} = Code.eval_string(code)
  end

  test "the events and log lines are there" do
    {:docs_v1, _, _, _, %{"en" => events}, _, _} = Code.fetch_docs(PowRedisCache.Telemetry)
    named = Regex.scan(~r/`(\[:pow_redis_cache, [^\]]+\])`/, @page)
    assert length(named) > 5

    for [_, event] <- named, do: assert(events =~ "`#{event}`")

    source = File.read!(Path.expand("../../lib/pow_redis_cache/events.ex", __DIR__))

    lines = ["counted as a miss", "invalid values read from Redis", "values read from Redis that"]

    for line <- lines do
      assert @page =~ line
      assert source =~ line
    end
  end

  test "info has what it is asked for", %{name: name} do
    info = PowRedisCache.info(name)
    asked = Regex.scan(~r/`PowRedisCache\.info\(\)`: `(\w+)`/, @page)
    assert length(asked) > 1
    for [_, field] <- asked, do: assert(Map.has_key?(info, String.to_existing_atom(field)))
  end

  test "links lead somewhere" do
    for [_, link] <- Regex.scan(~r/\]\(([^)#]+)\)/, @page) do
      assert File.regular?(Path.expand("../../guides/#{link}", __DIR__)), link
    end
  end
end
