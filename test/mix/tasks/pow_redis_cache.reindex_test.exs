defmodule PowRedisCache.ReindexTaskTest do
  use PowRedisCache.Case, async: true

  @moduletag :integration

  import ExUnit.CaptureIO

  alias Mix.Tasks.PowRedisCache.Reindex
  alias PowRedisCache.{Processes, TaskApp}

  @moduletag server: []

  @ttl 600_000

  # An app that fails to start, since --url must not start it.
  setup do: [app: TaskApp.make!(~s[raise "no database"])]

  # Writes keys like v1 of Pow's example backend.
  defp write(context, numbers) do
    v1 = %{context.pow_store | version: 1}

    for chunk <- Enum.chunk_every(numbers, 5_000) do
      commands =
        Enum.flat_map(
          chunk,
          &PowGuideStore.put_commands(v1, [context.namespace, "user", &1], &1, @ttl)
        )

      {:ok, _replies} = RedisClient.pipeline(context.client, commands)
    end
  end

  defp indexed(context) do
    set = PowGuideStore.index_set(context.pow_store, [context.namespace, "user"])
    RedisClient.command!(context.client, ["ZCARD", set])
  end

  defp delete_index(context) do
    for parts <- [[], ["user"]] do
      set = PowGuideStore.index_set(context.pow_store, [context.namespace | parts])
      RedisClient.command!(context.client, ["DEL", set])
    end
  end

  # Returns the number of indexed keys when the task was killed.
  defp kill_in_the_middle(context) do
    delete_index(context)

    options = ["--url", RedisServer.url(context.server), "--every-prefix"]
    {program, arguments} = TaskApp.command(context.app, ["pow_redis_cache.reindex" | options])
    task = Processes.start!(program, arguments, Path.join(context.app, "output"))
    Wait.until(fn -> indexed(context) > 1_000 end)
    # Pauses its writes, so that it has not finished when it is killed.
    RedisClient.command!(context.client, ["CLIENT", "PAUSE", 60_000, "WRITE"])
    Processes.kill(task)
    RedisClient.command!(context.client, ["CLIENT", "UNPAUSE"])
    indexed(context)
  end

  # Returns the stderr output of a run whose connections are closed.
  defp cut_in_the_middle(context) do
    delete_index(context)

    cutter =
      Task.async(fn ->
        Wait.until(fn -> indexed(context) > 1_000 end)
        RedisClient.command!(context.client, ["CLIENT", "KILL", "TYPE", "normal"])
      end)

    output =
      capture_io(:stderr, fn ->
        capture_io(fn ->
          Reindex.run(["--url", RedisServer.url(context.server), "--every-prefix"])
        end)
      end)

    Task.await(cutter, 60_000)
    output
  end

  describe "with --url" do
    test "indexes the keys, with output that fits a log", context do
      write(context, 1..1_000)

      assert {output, 0} =
               mix(context, ["--url", RedisServer.url(context.server), "--every-prefix"])

      refute output =~ "\r"
      assert output =~ ~r/^100 %  1,000 keys  [\d,]+\/s  took 00:\d\d$/m
      assert output =~ ~r/^Scanned 1000 keys: 1000 were indexed, 0 were renamed$/m
      assert indexed(context) == 1_000
    end

    test "writes nothing with --dry-run", context do
      write(context, 1..10)
      url = RedisServer.url(context.server)
      output = capture_io(fn -> Reindex.run(["--url", url, "--every-prefix", "--dry-run"]) end)

      assert output =~
               "Scanned 10 keys: 10 would be indexed, 0 would be renamed. Nothing was written\n"

      assert indexed(context) == 0
      assert Process.whereis(Reindex) == nil
    end

    test "only renames with --no-index", context do
      write(context, 1..10)
      v1 = %{context.pow_store | otp: 25, version: 1}
      PowGuideStore.put(v1, [context.namespace, :atom], 1, @ttl)
      url = RedisServer.url(context.server)
      output = capture_io(fn -> Reindex.run(["--url", url, "--no-index"]) end)
      assert output =~ "Scanned 11 keys: 0 were indexed, 1 were renamed\n"
      assert indexed(context) == 0
      assert PowGuideStore.get(context.pow_store, [context.namespace, :atom]) == 1
    end

    test "indexes everything after a kill and a second run", context do
      total = 60_000
      write(context, 1..total)
      # Tries again if the task finished before the kill.
      Wait.until(fn -> kill_in_the_middle(context) < total end)

      assert {output, 0} =
               mix(context, ["--url", RedisServer.url(context.server), "--every-prefix"])

      assert output =~ "Scanned #{total} keys: "
      assert indexed(context) == total
      match = ["user", :_]
      assert context.config |> PowRedisCache.all(match) |> length() == total
    end

    test "reports a lost connection", context do
      write(context, 1..60_000)
      lost = "A connection was lost during the scan."

      # Tries again if the task finished before its connections were closed.
      output =
        Wait.until(fn ->
          output = cut_in_the_middle(context)
          output =~ lost and output
        end)

      assert output =~ "run it again"
      assert indexed(context) == 60_000
    end
  end

  describe "without --url" do
    @tag instance: [name: nil]
    test "uses the instance of the app", context do
      write(context, 1..10)
      url = RedisServer.url(context.server)

      code = """
      children = [{PowRedisCache, url: "#{url}/1"}, {PowRedisCache, name: App.Sessions, url: "#{url}", index: true}]
      Supervisor.start_link(children, strategy: :one_for_one)
      """

      context = %{context | app: TaskApp.make!(code)}
      assert {output, 0} = mix(context, [])
      assert output =~ "Scanned 0 keys"
      assert {output, 0} = mix(context, ["--name", "App.Sessions"])
      assert output =~ "Scanned 10 keys: 10 were indexed"
      assert indexed(context) == 10

      assert {output, 1} = mix(context, ["--name", "App.Other"])
      assert output =~ "(Mix) reindex failed: App.Other is not running. Start it before"
    end

    test "fails if the app cannot start", context do
      assert {output, 1} = mix(context, [])
      assert output =~ "no database"
    end
  end

  describe "on an error, the task" do
    test "names the invalid option without its value" do
      for {arguments, problem} <- [
            {["--bogus"], "got --bogus, which is unknown or has an invalid value"},
            {["--url"], "got --url, which is unknown or has an invalid value"},
            {["--dry-run=secret"], "got --dry-run, which is unknown or has an invalid value"},
            {["redis://:secret@localhost"], "got an argument that is not an option"},
            {["--url", "redis://:secret@localhost", "--name", "A"], "got both --url and --name"},
            {["--no-verify"], "got --no-verify without --url"},
            {["--name", "A", "--no-index"], "got --no-index without --url"},
            {["--url", "http://:secret@localhost"], "got: a string without a known scheme"},
            {["--url", "redis://:secret@localhost:99999"], "a port that is not from 1 to"}
          ] do
        error = assert_raise Mix.Error, fn -> Reindex.run(arguments) end
        assert Exception.message(error) =~ problem
        refute Exception.message(error) =~ "secret"
      end
    end

    test "exits with status 1", context do
      assert {output, 1} = mix(context, ["--url", "redis://127.0.0.1:#{Ports.free()}"])
      assert output =~ "(Mix) reindex failed: Redis is unreachable."
      assert {output, 1} = mix(context, ["--bogus"])
      assert output =~ "(Mix) expected --name NAME or --url URL"
    end
  end

  defp mix(context, arguments),
    do: TaskApp.mix(context.app, ["pow_redis_cache.reindex" | arguments])
end
