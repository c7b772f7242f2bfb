defmodule PowRedisCache.ServerTest do
  # Starting, stopping, crashing and reloading an instance leaks no resource and no secret.
  use PowRedisCache.Case, async: false

  describe "starting and stopping an instance" do
    @describetag :integration
    @describetag instance: [name: nil]

    setup %{server: server} do
      # Warms up the VM and its allocators.
      for _ <- 1..100, do: start_and_stop(server, &GenServer.stop/1)
      Wait.until(fn -> threads("pow_redis") == 0 end)
      :ok
    end

    test "leaks no thread, file or memory", %{server: server} do
      before = holdings()
      for _ <- 1..1_000, do: start_and_stop(server, &GenServer.stop/1)
      assert_unchanged(before)
    end

    test "leaks nothing if the owner is killed", %{server: server} do
      before = holdings()
      name = unique_name()

      for _ <- 1..300 do
        start_and_stop(server, name, fn owner ->
          Process.unlink(owner)
          Process.exit(owner, :kill)
          Wait.until(fn -> not Process.alive?(owner) end)
        end)
      end

      # The last killed owner leaves its persistent term behind; a proper stop erases it.
      start_and_stop(server, name, &GenServer.stop/1)
      assert_unchanged(before)
    end

    test "leaks nothing if Redis is unreachable" do
      before = holdings()
      port = Ports.free()

      for _ <- 1..300 do
        {:ok, owner} =
          PowRedisCache.start_link(name: unique_name(), url: "redis://127.0.0.1:#{port}")

        GenServer.stop(owner)
      end

      assert_unchanged(before)
    end

    test "leaks nothing with calls in flight, which fail", %{server: server} do
      before = holdings()

      for _ <- 1..100 do
        name = unique_name()
        {:ok, owner} = PowRedisCache.start_link(name: name, url: RedisServer.url(server))
        callers = for _ <- 1..10, do: Task.async(fn -> call_until_stopped(name, 0) end)
        Wait.until(fn -> PowRedisCache.info(name).calls > 20 end)
        GenServer.stop(owner)

        for reason <- Task.await_many(callers, 60_000),
            do: assert(reason in [:closed, :not_started])
      end

      assert_unchanged(before)
    end
  end

  describe "a supervisor" do
    @tag instance: [name: nil]
    test "restarts the instance if its owner crashes", %{server: server} do
      name = unique_name()
      child = {PowRedisCache, name: name, url: RedisServer.url(server), default_ttl: 60_000}

      start_supervised!(
        {Supervisor, {[child], strategy: :one_for_one, max_restarts: 1_000}}
        |> child()
      )

      for round <- 1..50 do
        owner = Wait.until(fn -> Process.whereis(name) end)
        assert PowRedisCache.put([name: name], {"key", round}) == :ok
        Process.exit(owner, :kill)
        Wait.until(fn -> Process.whereis(name) not in [owner, nil] end)
        Wait.until(fn -> PowRedisCache.ping(name) == :ok end)
        assert PowRedisCache.get([name: name], "key") == round
      end

      Wait.until(fn -> threads("pow_redis") == 2 end)
    end

    @tag instance: [name: nil]
    test "gets :already_started if the instance is running", %{server: server} do
      name = unique_name()
      options = [name: name, url: RedisServer.url(server)]
      {:ok, owner} = PowRedisCache.start_link(options)
      assert PowRedisCache.start_link(options) == {:error, {:already_started, owner}}
      assert PowRedisCache.ping(name) == :ok
      GenServer.stop(owner)
      {:ok, owner} = PowRedisCache.start_link(options)
      assert PowRedisCache.ping(name) == :ok
      GenServer.stop(owner)
    end
  end

  test "two instances are isolated from each other",
       %{config: config, server: server} = context do
    other = start_instance(context, url: RedisServer.url(server) <> "/1")
    PowRedisCache.put(config, {["a", 1], :here})
    PowRedisCache.put(other, {["a", 1], :there})
    assert PowRedisCache.get(config, ["a", 1]) == :here
    assert PowRedisCache.get(other, ["a", 1]) == :there
    PowRedisCache.delete(config, ["a", 1])
    assert PowRedisCache.all(other, ["a", :_]) == [{["a", 1], :there}]
    :ok = stop_supervised(other[:name])
    assert PowRedisCache.all(config, ["a", :_]) == []
    assert PowRedisCache.info(config[:name]).connected
    assert {:error, %{reason: :not_started}} = PowRedisCache.ping(other[:name])
  end

  describe "no password, key or value is shown" do
    @secret "s3cret-p4ssword"
    @record "s3cret-r3cord"

    setup do
      :ok = :logger.add_handler(__MODULE__, __MODULE__, %{level: :all, config: %{pid: self()}})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)
    end

    @tag instance: [name: nil]
    test "after a rejected login, a crash and a restart", %{server: server} do
      name = unique_name()
      url = "redis://ann:#{@secret}@127.0.0.1:#{server.port}"
      child = {PowRedisCache, name: name, url: url, default_ttl: 60_000}
      start_supervised!({Supervisor, {[child], strategy: :one_for_one}} |> child())
      owner = Process.whereis(name)
      config = [name: name, namespace: @record]

      errors =
        for call <- [
              fn -> PowRedisCache.put(config, {@record, @record}) end,
              fn -> PowRedisCache.get(config, @record) end,
              fn -> PowRedisCache.delete(config, @record) end,
              fn -> PowRedisCache.all(config, @record) end,
              fn -> PowRedisCache.put(config, {@record, fn -> @record end}) end,
              fn -> PowRedisCache.put(config, @record) end
            ] do
          try do
            call.()
            flunk("expected an error")
          rescue
            error -> {error, Exception.format(:error, error, [])}
          end
        end

      shown = [
        errors,
        :sys.get_state(owner),
        :sys.get_status(owner),
        PowRedisCache.info(name),
        Process.info(owner),
        :persistent_term.get({PowRedisCache, name}, nil)
      ]

      # The crash report is logged.
      :ok = GenServer.stop(owner, :broken)
      Wait.until(fn -> Process.whereis(name) not in [owner, nil] end)
      send(Process.whereis(name), :unexpected)
      :sys.get_state(name)
      events = events()
      assert Enum.any?(events, &(&1.level == :error))

      for text <- [inspect(shown, limit: :infinity, printable_limit: :infinity) | texts(events)] do
        refute text =~ @secret
        refute text =~ @record
      end
    end

    @tag instance: [name: nil]
    test "for an invalid URL" do
      for url <- ["http://ann:#{@secret}@host", "ann:#{@secret}@host", "redis://ann:#{@secret}@"] do
        error = catch_error(PowRedisCache.start_link(url: url))
        refute Exception.format(:error, error, []) =~ @secret
      end
    end

    test "after a failed asynchronous write", %{server: server, namespace: namespace} do
      name = unique_name()
      url = "redis://ann:#{@secret}@127.0.0.1:#{server.port}"
      start_supervised!({PowRedisCache, name: name, url: url}, id: name)
      config = [name: name, namespace: namespace, writes: :async, ttl: 1_000]
      PowRedisCache.put(config, {@record, @record})

      events =
        Wait.until(fn ->
          seen = events()
          Enum.any?(texts(seen), &(&1 =~ "asynchronous put failed")) and seen
        end)

      for text <- texts(events) do
        refute text =~ @secret
        refute text =~ @record
      end
    end
  end

  # Runs in a new VM, since a failure would break the module in this one.
  @reload """
  {:ok, _} = PowRedisCache.start_link(url: System.fetch_env!("URL"), default_ttl: 60_000)
  PowRedisCache.put([], {"reloaded", 1})

  for _ <- 1..3 do
    :code.purge(PowRedisCache.Native)
    :code.load_file(PowRedisCache.Native)
    1 = PowRedisCache.get([], "reloaded")
    %{connected: true} = PowRedisCache.info()
  end

  {:ok, _} = PowRedisCache.start_link(url: System.fetch_env!("URL"), name: :other)
  1 = PowRedisCache.get([name: :other], "reloaded")
  IO.puts("still works")
  """

  @tag instance: [name: nil]
  test "a running instance survives a reload of the native module", %{server: server} do
    {output, status} =
      System.cmd("elixir", ["-pa", Application.app_dir(:pow_redis_cache, "ebin"), "-e", @reload],
        env: [{"URL", RedisServer.url(server)}],
        stderr_to_stdout: true
      )

    assert status == 0, output
    assert output =~ "still works"
  end

  # The logger handler. It runs in the process that logs.
  def log(event, %{config: %{pid: pid}}), do: send(pid, {:event, event})

  defp events do
    receive do
      {:event, event} -> [event | events()]
    after
      0 -> []
    end
  end

  # The whole content of the events, which a log handler could write.
  defp texts(events) do
    for event <- events, do: inspect(event, limit: :infinity, printable_limit: :infinity)
  end

  defp child({module, {children, options}}) do
    %{id: module, type: :supervisor, start: {module, :start_link, [children, options]}}
  end

  defp start_and_stop(server, name \\ unique_name(), stop) do
    {:ok, owner} = PowRedisCache.start_link(name: name, url: RedisServer.url(server))
    # Stops some instances while they connect, and others with open connections.
    if :rand.uniform(2) == 1, do: :ok = PowRedisCache.ping(name)
    stop.(owner)
  end

  defp call_until_stopped(name, number) do
    config = [name: name, namespace: "lifecycle", ttl: 1_000]

    try do
      if rem(number, 2) == 0 do
        PowRedisCache.put(config, {"key", number})
      else
        PowRedisCache.get(config, "key")
      end
    rescue
      error in PowRedisCache.Error -> error.reason
    else
      _ -> call_until_stopped(name, number + 1)
    end
  end

  defp holdings do
    %{files: length(File.ls!("/proc/self/fd")), memory: memory(), terms: terms()}
  end

  defp assert_unchanged(before) do
    Wait.until(fn -> threads("pow_redis") == 0 end)
    Wait.until(fn -> length(File.ls!("/proc/self/fd")) <= before.files end)
    assert terms() == before.terms
    grown = memory() - before.memory
    assert grown < 40_000, "#{grown} kB more"
  end

  # The number of threads in this VM with a name prefix.
  defp threads(name) do
    Enum.count(File.ls!("/proc/self/task"), fn thread ->
      case File.read("/proc/self/task/#{thread}/comm") do
        {:ok, comm} -> String.starts_with?(comm, name)
        {:error, _gone} -> false
      end
    end)
  end

  defp terms, do: Enum.count(:persistent_term.get(), &match?({{PowRedisCache, _name}, _}, &1))

  defp memory do
    [_, size] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(size)
  end
end
