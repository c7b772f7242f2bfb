defmodule PowRedisCache.TestingTest do
  use PowRedisCache.Case, async: true

  alias PowRedisCache.Testing

  setup context, do: Testing.isolate(context)

  test "a test finds its own records, and Redis has them under a namespace of the test",
       context do
    %{config: config} = context
    assert Testing.put(config, [{"key", 1}, {["user", 1], 2}]) == :ok
    assert Testing.get(config, "key") == 1
    assert Testing.all(config, ["user", :_]) == [{["user", 1], 2}]
    assert Testing.put_new(config, {"new", 3})
    refute Testing.put_new(config, {"new", 4})
    assert PowRedisCache.get(config, "key") == :not_found
    assert PowRedisCache.all(config, :_) == []
    assert Testing.delete(config, "key") == :ok
    assert Testing.get(config, "key") == :not_found
  end

  test "without a namespace, that of the instance is used", %{config: config} do
    without = Keyword.delete(config, :namespace)
    Testing.put(without, {"key", 1})
    assert Testing.get(Keyword.put(config, :namespace, "cache"), "key") == 1
    assert Testing.get(config, "key") == :not_found
  end

  test "tasks and supervised processes belong to the test that started them", %{config: config} do
    Testing.put(config, {"key", 1})
    assert Task.await(Task.async(fn -> Testing.get(config, "key") end)) == 1
    agent = start_supervised!({Agent, fn -> nil end})
    assert Agent.get(agent, fn nil -> Testing.get(config, "key") end) == 1
    supervisor = start_supervised!(Task.Supervisor)

    nested = fn ->
      supervisor
      |> Task.Supervisor.async_nolink(fn -> Testing.get(config, "key") end)
      |> Task.await()
    end

    assert Task.await(Task.async(nested)) == 1
  end

  test "other processes belong to no test until they are allowed", %{config: config} do
    Testing.put(config, {"key", 1})
    other = start_other(fn -> Testing.get(config, "key") end)
    assert {%RuntimeError{message: message}, _stacktrace} = call(other)

    assert message ==
             "#{inspect(other)} belongs to no test. Call `PowRedisCache.Testing.isolate(context)` " <>
               "in the setup of the test, or `PowRedisCache.Testing.allow(test, pid)`"

    assert Testing.allow(other) == :ok
    assert call(other) == 1
    # A process that belongs to the test can stand for it.
    another = start_other(fn -> Testing.get(config, "key") end)
    assert Task.await(Task.async(fn -> Testing.allow(other, another) end)) == :ok
    assert call(another) == 1

    assert_raise RuntimeError, ~r/belongs to no test/, fn ->
      Testing.allow(start_other(fn -> nil end), other)
    end
  end

  @tag :integration
  test "tests at the same time have records of their own, and leave none" do
    server = RedisServer.start!()
    on_exit(fn -> RedisServer.stop(server) end)
    ebin = Application.app_dir(:pow_redis_cache, "ebin")
    environment = [{"REDIS_URL", RedisServer.url(server)}]
    arguments = ["-pa", ebin, "test/fixtures/isolated_tests.exs"]
    {output, status} = System.cmd("elixir", arguments, env: environment, stderr_to_stdout: true)
    assert {status, output} == {0, output}
    assert output =~ "3 tests, 0 failures"
    assert RedisServer.command!(server, ["DBSIZE"]) == 0
    # Something was there.
    assert {written, ""} =
             server |> RedisServer.info_of(["INFO", "commandstats"], "cmdstat_set") |> calls()

    assert written >= 5
  end

  defp calls("calls=" <> rest), do: rest |> String.split(",") |> hd() |> Integer.parse()

  # A process that no test has started, with a function that `call/1` calls.
  defp start_other(function) do
    other = spawn(fn -> serve(function) end)
    on_exit(fn -> Process.exit(other, :kill) end)
    other
  end

  defp serve(function) do
    receive do
      {:call, from} ->
        send(from, {self(), result(function)})
        serve(function)
    end
  end

  defp result(function) do
    function.()
  rescue
    error -> {error, __STACKTRACE__}
  end

  defp call(other) do
    send(other, {:call, self()})
    assert_receive {^other, result}, 60_000
    result
  end
end
