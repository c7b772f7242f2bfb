defmodule PowRedisCache.AuthTest do
  # Logins and the choice of a database.
  use ExUnit.Case, async: true

  @moduletag :integration

  import ExUnit.CaptureLog
  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{FakeServer, RedisClient, RedisServer, SchedulerStalls, Wait}

  @password "pa:ss@w/o?r#d %"

  setup context do
    node = RedisServer.start!(context[:server] || [], password: context[:password])
    on_exit(fn -> RedisServer.stop(node) end)
    [node: node, at: "127.0.0.1:#{node.port}"]
  end

  describe "the server's password" do
    @describetag server: ["--requirepass", @password], password: @password

    test "is taken from the URL or the option, which takes precedence", %{at: at} do
      escaped = URI.encode_www_form(@password) |> String.replace("+", "%20")
      assert works?(url: "redis://:#{escaped}@#{at}")
      assert works?(url: "redis://#{at}", password: @password)
      assert works?(url: "redis://:wrong@#{at}", password: @password)
      assert works?(url: "redis://default:#{escaped}@#{at}")
      assert works?(url: "redis://:wrong@#{at}", username: "default", password: @password)
    end

    test "returns :unauthenticated if it is missing or wrong", %{at: at} do
      assert %{reason: :unauthenticated, code: "NOAUTH"} = failure(url: "redis://#{at}")
      assert %{reason: :unauthenticated, code: "WRONGPASS"} = failure(url: "redis://:no@#{at}")

      error = failure(url: "redis://#{at}", password: "no")
      assert %{reason: :unauthenticated, code: "WRONGPASS"} = error
      assert Exception.message(error) =~ ":url"
    end

    test "is tried alone for the user h of Heroku, with a warning", %{at: at} do
      log =
        capture_log(fn ->
          assert works?(url: "redis://#{at}", username: "h", password: @password)
        end)

      assert log =~
               "the user h does not exist. Its password is the default user's, who is logged in. " <>
                 "Remove the user from :url or :username"

      refute log =~ @password
      assert %{reason: :unauthenticated} = failure(url: "redis://h:wrong@#{at}")
    end

    test "is not tried alone for another user", %{at: at} do
      error = failure(url: "redis://#{at}", username: "app_readonly", password: @password)
      assert %{reason: :unauthenticated, code: "WRONGPASS"} = error
    end

    test "may be any bytes", %{node: node} do
      for password <- [<<255, 0, 13, 10>>, :crypto.strong_rand_bytes(10_000)] do
        acl = ["ACL", "SETUSER", "bytes", "reset", "on", ">" <> password, "~*", "+@all"]
        "OK" = RedisServer.command!(node, acl)
        encoded = URI.encode(password, &URI.char_unreserved?/1)
        at = "127.0.0.1:#{node.port}"
        assert works?(url: "redis://bytes:#{encoded}@#{at}")
        assert works?(url: "redis://bytes@#{at}", password: fn -> password end)
      end
    end
  end

  test "a user without a password is logged in with an empty one", %{at: at, node: node} do
    acl = ["ACL", "SETUSER", "open", "on", "nopass", "~*", "&*", "+@all"]
    "OK" = RedisServer.command!(node, acl)
    config = start(url: "redis://open@#{at}")
    assert PowRedisCache.put(config, {"key", 1}) == :ok
    assert "open" in users(node)
    assert works?(url: "redis://h:@#{at}")
    assert %{reason: :unauthenticated} = failure(url: "redis://nobody@#{at}")
  end

  test "a server that knows no users gets the password alone, but not for a named user" do
    server = FakeServer.start!([:serve_without_users], at: :login)
    at = "127.0.0.1:#{server.port}"
    assert PowRedisCache.get(start(url: "redis://default:pw@#{at}"), "key") == :not_found
    assert PowRedisCache.get(start(url: "redis://h:pw@#{at}"), "key") == :not_found
    assert PowRedisCache.get(start(url: "redis://:pw@#{at}"), "key") == :not_found
    assert %{reason: :server, code: "ERR"} = failure(url: "redis://ann:pw@#{at}")
    assert Enum.count(FakeServer.commands(server), &(&1 == ["AUTH", "pw"])) >= 3
  end

  describe "a user" do
    setup %{node: node} do
      acl = ["ACL", "SETUSER", "ann", "on", ">" <> @password, "~*", "&*", "+@all"]
      "OK" = RedisServer.command!(node, acl)
      :ok
    end

    test "is taken from the URL or the option, which takes precedence", %{at: at, node: node} do
      escaped = URI.encode_www_form(@password) |> String.replace("+", "%20")

      for options <- [
            [url: "redis://ann:#{escaped}@#{at}"],
            [url: "redis://#{at}", username: "ann", password: @password],
            [url: "redis://bob:wrong@#{at}", username: "ann", password: @password],
            [url: "redis://bob:#{escaped}@#{at}", username: "ann"]
          ] do
        config = start(options)
        assert PowRedisCache.put(config, {"key", 1}) == :ok
        assert "ann" in users(node)
        stop_supervised!(config[:name])
        Wait.until(fn -> users(node) == ["default"] end)
      end
    end

    test "that exists never falls back to the default user", %{at: at} do
      # `AUTH pass` alone would log in the default user, which needs no password here.
      assert %{reason: :unauthenticated, code: "WRONGPASS"} =
               failure(url: "redis://#{at}", username: "ann", password: "wrong")
    end

    test "without permissions gets :not_permitted", %{at: at, node: node} do
      RedisServer.command!(node, ["ACL", "SETUSER", "ann", "-set"])
      config = start(url: "redis://#{at}", username: "ann", password: @password)
      error = catch_error(PowRedisCache.put(config, {"key", 1}))
      assert %PowRedisCache.Error{reason: :not_permitted, code: "NOPERM"} = error
      assert PowRedisCache.get(config, "key") == :not_found
    end

    test "needs only the commands that the error message lists", %{at: at, node: node} do
      message = Exception.message(%PowRedisCache.Error{reason: :not_permitted, operation: :put})
      [_, list] = Regex.run(~r/the commands ([A-Z, ]+ and [A-Z]+)/, message)
      commands = list |> String.split(~r/, | and /) |> Enum.map(&("+" <> String.downcase(&1)))
      reset = ["ACL", "SETUSER", "poor", "reset", "on", ">" <> @password, "~*"]
      "OK" = RedisServer.command!(node, reset ++ commands)
      config = start(url: "redis://#{at}", username: "poor", password: @password)
      name = config[:name]

      assert PowRedisCache.put(config, [{["a", :b], 1}, {["a", 2], 2}]) == :ok
      assert PowRedisCache.get(config, ["a", :b]) == 1
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", 2], 2}, {["a", :b], 1}]
      assert PowRedisCache.delete(config, ["a", :b]) == :ok
      assert PowRedisCache.put(Keyword.put(config, :ttl, :infinity), {["a", 3], 3}) == :ok
      assert PowRedisCache.ping(name) == :ok
      assert %{keys: 2} = PowRedisCache.reindex(name: name)
      assert %{keys: 2} = PowRedisCache.reindex(name: name, dry_run: true)
    end
  end

  describe "a function as an option" do
    @describetag server: ["--requirepass", "first"], password: "first"

    test "is called again after the password changed", %{at: at, node: node} do
      agent = start_supervised!({Agent, fn -> "first" end})
      login = fn -> Agent.get(agent, & &1) end

      configs = [
        start(url: fn -> "redis://:#{login.()}@#{at}" end),
        start(url: "redis://#{at}", password: login),
        start(url: "redis://#{at}", password: {Agent, :get, [agent, &Function.identity/1]}),
        start(url: {__MODULE__, :url, [at, agent]}, username: fn -> "default" end)
      ]

      for config <- configs, do: assert(PowRedisCache.put(config, {"key", 1}) == :ok)
      client = RedisClient.connect!(node.port)
      RedisClient.command!(client, ["AUTH", "first"])
      RedisClient.command!(client, ["CONFIG", "SET", "requirepass", "second"])
      Agent.update(agent, fn _ -> "second" end)
      RedisClient.command!(client, ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
      for config <- configs, do: assert(PowRedisCache.get(config, "key") == 1)
    end

    test "that fails counts as a failed connect and is called again", %{at: at} do
      agent = start_supervised!({Agent, fn -> fn -> raise "s3cret" end end})
      url = fn -> Agent.get(agent, & &1).() end

      log =
        capture_log(fn ->
          config = start(url: url, timeout: 300)

          for failing <- [
                fn -> raise "s3cret" end,
                fn -> exit("s3cret") end,
                fn -> throw("s3cret") end,
                fn -> :s3cret end,
                fn -> nil end,
                fn -> "s3cret://s3cret" end,
                fn -> "" end
              ] do
            Agent.update(agent, fn _ -> failing end)
            assert {:error, %{reason: reason}} = PowRedisCache.ping(config[:name])
            assert reason in [:endpoint_unavailable, :disconnected, :invalid_url, :timeout]
          end

          Agent.update(agent, fn _ -> fn -> "redis://:first@#{at}" end end)
          Wait.until(fn -> PowRedisCache.ping(config[:name]) == :ok end)
        end)

      refute log =~ "s3cret"
    end

    test "that never returns blocks no call beyond its deadline", %{at: at} do
      config = start(url: fn -> Process.sleep(:infinity) end, timeout: 300, connect_timeout: 300)
      {result, took} = SchedulerStalls.time(fn -> PowRedisCache.ping(config[:name]) end)
      assert {:error, %{reason: reason}} = result
      assert reason in [:timeout, :endpoint_unavailable, :disconnected]
      assert took < 1_300
      # Nor does it block the owner process.
      :ok = stop_supervised(config[:name])
      assert works?(url: fn -> "redis://:first@#{at}" end)
    end

    test "is called only to connect", %{at: at} do
      calls = :counters.new(1, [])

      config =
        start(
          pool_size: 1,
          url: fn ->
            :counters.add(calls, 1, 1)
            "redis://:first@#{at}"
          end
        )

      for i <- 1..100, do: PowRedisCache.put(config, {"key", i})
      assert :counters.get(calls, 1) == 1
    end
  end

  describe "a Unix socket" do
    setup %{node: node} do
      # Restarted with a socket in its folder.
      path = Path.join(node.folder, "redis.sock")
      RedisServer.kill(node)
      node = RedisServer.start_again!(node, ["--unixsocket", path])
      on_exit(fn -> RedisServer.stop(node) end)
      [node: node, path: path]
    end

    test "works with a login and a database", %{path: path, node: node} do
      config = start(url: "unix://#{path}")
      assert PowRedisCache.put(config, {["a", 1], :zero}) == :ok
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", 1], :zero}]
      assert PowRedisCache.info(config[:name]).server =~ path

      RedisServer.command!(node, ["ACL", "SETUSER", "ann", "on", ">pw", "~*", "+@all"])
      other = start(url: "unix://#{path}?db=3&user=ann&pass=pw")
      assert PowRedisCache.put(other, {["a", 1], :three}) == :ok
      assert PowRedisCache.get(config, ["a", 1]) == :zero
      assert "ann" in users(node)
      assert size(node, 3) > 0

      third = start(url: "unix://#{path}", database: 3, username: "ann", password: "pw")
      assert PowRedisCache.get(third, ["a", 1]) == :three
    end

    test "is reconnected to after an outage", %{path: path, node: node} do
      config = start(url: "unix://#{path}", timeout: 5_000)
      PowRedisCache.put(config, {"key", 1})
      RedisServer.kill(node)
      call = Task.async(fn -> PowRedisCache.get(config, "key") end)
      node = RedisServer.start_again!(node)
      on_exit(fn -> RedisServer.stop(node) end)
      assert Task.await(call, 60_000) == :not_found
    end

    test "returns :disconnected if it does not exist" do
      assert %{reason: :disconnected} =
               failure(url: "unix:///nonexistent/redis.sock", timeout: 1_000)
    end
  end

  describe "the database" do
    test "is taken from the URL or the option, which takes precedence", %{at: at, node: node} do
      assert works?(url: "redis://#{at}/2")
      assert size(node, 2) > 0
      assert works?(url: "redis://#{at}/2", database: 5)
      assert size(node, 5) > 0
      assert works?(url: "redis://#{at}/2", database: 0)
      assert size(node, 0) > 0
    end

    test "returns the error reply of Redis if it does not exist", %{at: at} do
      assert %{reason: :server, code: "ERR"} = failure(url: "redis://#{at}", database: 99)
    end
  end

  test "invalid options raise at start without showing secrets" do
    for {options, message} <- [
          {[password: 12_345_678], ~r/:password/},
          {[password: fn _ -> "12345678" end], ~r/:password/},
          {[username: :"12345678"], ~r/:username/},
          {[database: -12_345_678], ~r/:database/},
          {[database: "0"], ~r/:database/},
          {[url: fn _ -> "redis://12345678" end], ~r/:url/},
          {[url: {String, "12345678"}], ~r/:url/}
        ] do
      error = assert_raise ArgumentError, message, fn -> PowRedisCache.start_link(options) end
      unless options[:database], do: refute(Exception.message(error) =~ "12345678")
    end
  end

  def url(at, agent), do: "redis://:#{Agent.get(agent, & &1)}@#{at}"

  defp start(options) do
    name = unique_name()
    start_supervised!({PowRedisCache, [name: name] ++ options}, id: name)
    [name: name, namespace: "auth", ttl: 60_000]
  end

  defp works?(options) do
    config = start(options)
    value = System.unique_integer()
    works? = PowRedisCache.put(config, {"key", value}) == :ok
    # The owner has logged what came before.
    :sys.get_state(config[:name])
    works? and PowRedisCache.get(config, "key") == value
  end

  defp failure(options) do
    config = start(options)
    error = catch_error(PowRedisCache.put(config, {"key", 1}))
    assert %PowRedisCache.Error{} = error
    error
  end

  # The users that are logged in.
  defp users(node) do
    for line <-
          node |> RedisServer.command!(["CLIENT", "LIST"]) |> String.split("\n", trim: true),
        [_, user] <- [Regex.run(~r/ user=(\S+)/, line)],
        uniq: true,
        do: user
  end

  defp size(node, database) do
    client = RedisClient.connect!(node.port)
    RedisClient.command!(client, ["SELECT", database])
    size = RedisClient.command!(client, ["DBSIZE"])
    RedisClient.close(client)
    size
  end
end
