defmodule PowRedisCache.PermissionsTest do
  # The user as whom the tests of the behaviour run has the permissions that the package needs, and no
  # others. `PowRedisCache.RedisServer` creates it on each server.
  use PowRedisCache.Case, async: true

  @moduletag :integration
  @moduletag :standalone
  @moduletag server: []

  alias PowRedisCache.{Commands, Sentinels}

  test "instances of the tests log in as this user", %{config: config, client: client} do
    assert PowRedisCache.put(config, {"key", 1}) == :ok
    assert ["app" | _] = users = users(client)
    # The other is the client.
    assert Enum.uniq(users) == ["app", "default"]
  end

  test "this user may access only the package's keys, and no command of administration", %{
    server: server
  } do
    client = RedisClient.connect!(server.port)
    "OK" = RedisClient.command!(client, ~w(AUTH app app))
    assert RedisClient.command!(client, ~w(GET gkey)) == nil
    assert RedisClient.command!(client, ~w(ZSCORE _index:gkey member)) == nil

    for command <- [
          ~w(GET other),
          ~w(ZSCORE other member),
          ~w(KEYS *),
          ~w(FLUSHALL),
          ~w(FLUSHDB),
          ~w(CONFIG GET requirepass),
          ~w(ACL LIST),
          ~w(CLIENT LIST),
          ~w(EVAL return 0),
          ~w(MONITOR),
          ~w(SELECT 1),
          ~w(SAVE),
          ~w(SHUTDOWN)
        ] do
      assert {:error, "NOPERM" <> _} = RedisClient.command(client, command), inspect(command)
    end

    RedisClient.close(client)
  end

  test "a tenant with keys of its own reads and writes no record, but sees the names of keys",
       context do
    %{config: config, client: client, server: server} = context
    assert PowRedisCache.put(config, {"key", 1}) == :ok
    rules = ~w(on >tenant ~tenant:* +@all -@admin -@dangerous)
    "OK" = RedisClient.command!(client, ~w(ACL SETUSER tenant) ++ rules)
    tenant = RedisClient.connect!(server.port)
    "OK" = RedisClient.command!(tenant, ~w(AUTH tenant tenant))
    [_cursor, keys] = RedisClient.command!(tenant, ~w(SCAN 0 COUNT 1000 TYPE string))
    assert [key] = keys

    for command <- [
          ["GET", key],
          ["SET", key, "value"],
          ["DEL", key],
          ["RENAME", key, "tenant:key"],
          ["COPY", key, "tenant:key"],
          ["DUMP", key],
          ["EVAL", "return redis.call('GET', KEYS[1])", "1", key],
          ["EVAL", "return redis.call('GET', ARGV[1])", "0", key],
          ["FLUSHALL"],
          ["MONITOR"]
        ] do
      assert {:error, _refused} = RedisClient.command(tenant, command), inspect(command)
    end

    RedisClient.close(tenant)
    assert PowRedisCache.get(config, "key") == 1
  end

  test "a tenant of another database reaches this one", %{config: config, server: server} do
    assert PowRedisCache.put(config, {"key", 1}) == :ok
    tenant = RedisClient.connect!(server.port)
    "OK" = RedisClient.command!(tenant, ~w(SELECT 1))
    assert RedisClient.command!(tenant, ~w(KEYS *)) == []
    "OK" = RedisClient.command!(tenant, ~w(SELECT 0))
    assert [_ | _] = keys = RedisClient.command!(tenant, ~w(KEYS g*))
    RedisClient.command!(tenant, ["DEL" | keys])
    RedisClient.close(tenant)
    assert PowRedisCache.get(config, "key") == :not_found
  end

  @tag instance: [name: nil]
  test "each permission is used", context do
    %{client: client, namespace: namespace} = context
    v1 = %{context.pow_store | version: 1, otp: 25}
    PowGuideStore.put(v1, [namespace, "a", :b], 1, 60_000)
    "OK" = RedisClient.command!(client, ~w(CONFIG RESETSTAT))
    config = start_instance(context, index: true)
    assert %{renamed: 1} = PowRedisCache.reindex(name: config[:name], dry_run: true)
    assert %{renamed: 1} = PowRedisCache.reindex(name: config[:name])
    assert PowRedisCache.put(config, {["a", 2], 2}) == :ok
    assert PowRedisCache.put_new(config, {["a", 2], 3}) == false
    assert PowRedisCache.all(config, ["a", :_]) == [{["a", 2], 2}, {["a", :b], 1}]
    assert PowRedisCache.delete(config, ["a", 2]) == :ok
    assert PowRedisCache.ping(config[:name]) == :ok
    near = start_instance(context, near_cache: true)
    Wait.until(fn -> PowRedisCache.info(near[:name]).near_cache.tracking end)

    # A write that Redis holds back: the next connection ends the one on which it was sent.
    hasty = start_instance(context, timeout: 500)
    Wait.until(fn -> PowRedisCache.ping(hasty[:name]) == :ok end)
    "OK" = RedisClient.command!(client, ~w(CLIENT PAUSE 600000 WRITE))
    assert_raise PowRedisCache.Error, fn -> PowRedisCache.put(hasty, {"key", 1}) end
    Wait.until(fn -> Commands.acl_rules(:standalone, true) -- used(client) == [] end)
    "OK" = RedisClient.command!(client, ~w(CLIENT UNPAUSE))
  end

  @tag instance: [name: nil]
  test "with Sentinel, it needs one command more, and its namesake at the sentinels needs one" do
    sentinels = Sentinels.start!()
    on_exit(fn -> Sentinels.stop(sentinels) end)

    for node <- sentinels.nodes do
      rules = Commands.acl_rules(:sentinel) -- Commands.acl_rules(:standalone)
      assert rules == ["+role"]
      "OK" = RedisServer.command!(node, ~w(ACL SETUSER app) ++ rules)
    end

    for sentinel <- sentinels.sentinels do
      client = RedisClient.connect!(sentinel.port)
      "OK" = RedisClient.command!(client, ~w(ACL SETUSER app on >app +sentinel|master))
      RedisClient.close(client)
    end

    name = unique_name()
    group = [sentinels: Sentinels.urls(sentinels), group: sentinels.group]
    login = [username: "app", password: "app"]
    options = [name: name, sentinel: group ++ login, index: true] ++ login
    start_supervised!({PowRedisCache, options})
    config = [name: name, namespace: "permissions", ttl: 60_000]
    assert PowRedisCache.put(config, {["a", 1], 1}) == :ok
    assert PowRedisCache.all(config, ["a", :_]) == [{["a", 1], 1}]
  end

  # The users of the connections.
  defp users(client) do
    for [_, user] <- Regex.scan(~r/ user=(\S+)/, RedisClient.command!(client, ~w(CLIENT LIST))) do
      user
    end
    |> Enum.sort()
  end

  # The rules for the commands that the server has executed.
  defp used(client) do
    stats = RedisClient.command!(client, ~w(INFO commandstats))
    for [_, name] <- Regex.scan(~r/^cmdstat_([^:]+):/m, stats), do: "+" <> name
  end
end
