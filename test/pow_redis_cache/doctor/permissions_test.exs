defmodule PowRedisCache.Doctor.PermissionsTest do
  # The doctor's check of the commands that the user and the server permit.
  use PowRedisCache.Case, async: true

  import PowRedisCache.Diagnosis

  alias PowRedisCache.{Doctor}

  @moduletag server: []

  @password "s3cret-p4ssword"

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
               "Run on the server: `ACL SETUSER ann +del +get +pexpire +ping +pttl +renamenx " <>
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

  # The checks of a server that does not know these commands.
  defp renamed(commands) do
    arguments = for name <- commands, argument <- ["--rename-command", name, ""], do: argument
    server = RedisServer.start!(arguments)
    {server, Doctor.check(url: RedisServer.url(server))}
  end
end
