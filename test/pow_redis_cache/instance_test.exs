defmodule PowRedisCache.InstanceTest do
  # The life of an instance, and the information about it.
  use PowRedisCache.Case, async: true

  describe "an instance" do
    test "reports its state and counters", %{config: config, server: server} do
      PowRedisCache.put(config, {"key", 1})
      info = PowRedisCache.info(config[:name])
      assert %{connected: true, queue: 0, calls: 1, reconnects: 0, retries: 0} = info
      assert info.server == "127.0.0.1:#{server.port}"
      assert info.version =~ ~r/^(Redis|Valkey) \d+\.\d+\.\d+$/
      assert info.batches > 0
      assert PowRedisCache.ping(config[:name]) == :ok
    end

    @tag instance: [name: nil]
    test "raises with advice if it is not running" do
      name = unique_name()
      config = [name: name, ttl: 1_000]

      for {operation, call} <- [
            put: fn -> PowRedisCache.put(config, {"key", 1}) end,
            put_new: fn -> PowRedisCache.put_new(config, {"key", 1}) end,
            delete: fn -> PowRedisCache.delete(config, "key") end,
            get: fn -> PowRedisCache.get(config, "key") end,
            all: fn -> PowRedisCache.all(config, :_) end,
            info: fn -> PowRedisCache.info(name) end,
            reindex: fn -> PowRedisCache.reindex(name: name) end
          ] do
        message =
          "#{operation} failed: #{inspect(name)} is not running. Start it before anything that uses " <>
            "it: add `{#{inspect(name)}, url: \"redis://…\"}` to the children of your " <>
            "application's supervisor, before the endpoint"

        assert_raise PowRedisCache.Error, message, call
      end

      assert {:error, %PowRedisCache.Error{reason: :not_started}} = PowRedisCache.ping(name)
    end

    defmodule AdminSessions do
      use PowRedisCache
    end

    @tag server: []
    test "of a module with `use PowRedisCache` is separate", %{config: config, server: server} do
      start_supervised!({AdminSessions, url: RedisServer.url(server) <> "/1"})
      admin = Keyword.delete(config, :name)
      assert AdminSessions.put(admin, {"key", "admin"}) == :ok
      assert AdminSessions.put_new(admin, {"key", "other"}) == false
      assert AdminSessions.get(admin, "key") == "admin"
      assert PowRedisCache.get(config, "key") == :not_found
      assert AdminSessions.all(admin, :_) == [{"key", "admin"}]
      assert AdminSessions.delete(admin, "key") == :ok
      assert AdminSessions.ping() == :ok
      assert %{calls: 6} = AdminSessions.info()
      assert AdminSessions.reindex() == %{keys: 0, indexed: 0, renamed: 0, skipped: 0}
    end

    test "stops if its owner is killed", %{server: server} do
      name = unique_name()
      {:ok, owner} = PowRedisCache.start_link(name: name, url: RedisServer.url(server))
      Process.unlink(owner)
      assert PowRedisCache.ping(name) == :ok
      Process.exit(owner, :kill)

      Wait.until(fn -> match?({:error, %{reason: :not_started}}, PowRedisCache.ping(name)) end)
    end

    test "writes queued requests before it stops", %{config: config, server: server} do
      name = unique_name()

      {:ok, owner} =
        PowRedisCache.start_link(name: name, url: RedisServer.url(server), index: true)

      async = Keyword.merge(config, name: name, writes: :async)
      for i <- 1..2_000, do: PowRedisCache.put(async, {["i", i], i})
      :ok = GenServer.stop(owner)
      assert length(PowRedisCache.all(config, ["i", :_])) == 2_000
    end

    test "shows no password", %{server: server} do
      name = unique_name()
      url = "redis://ann:s3cret@127.0.0.1:#{server.port}"

      owner =
        start_supervised!(Supervisor.child_spec({PowRedisCache, name: name, url: url}, id: name))

      assert {:error, error} = PowRedisCache.ping(name)
      assert %PowRedisCache.Error{reason: :unauthenticated, code: "WRONGPASS"} = error

      seen =
        inspect([
          :sys.get_state(owner),
          :sys.get_status(owner),
          error,
          Exception.message(error),
          PowRedisCache.info(name)
        ])

      refute seen =~ "s3cret"
    end
  end
end
