defmodule PowRedisCache.ResealTaskTest do
  # The task uses the instance of the app. test/pow_redis_cache/reseal_test.exs tests what it does.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureIO

  alias Mix.Tasks.PowRedisCache.Reseal
  alias PowRedisCache.{Processes, SealKeys, TaskApp}

  @moduletag server: [], instance: [name: nil]

  setup context do
    # As the guide says: for as long as the task runs.
    "OK" = RedisClient.command!(context.client, ~w(ACL SETUSER app +eval))
    keys = SealKeys.generate("a")
    plain = start_instance(context, seal: nil)
    [keys: keys, plain: plain, sealing: start_instance(context, seal: keys)]
  end

  defp run(context, arguments),
    do: capture_io(fn -> Reseal.run(["--name", ":#{context.sealing[:name]}"] ++ arguments) end)

  test "seals the values, with output that fits a log", context do
    PowRedisCache.put(context.plain, for(i <- 1..1_000, do: {["k", i], i}))
    output = run(context, ["--dry-run"])

    assert output =~
             "Scanned 1000 keys: 1000 values would be written again. Nothing was written\n"

    output = run(context, [])
    refute output =~ "\r"
    assert output =~ ~r/^100 %  1,000 keys  [\d,]+\/s  took 00:\d\d$/m
    assert output =~ "Scanned 1000 keys: 1000 values were written again\n"
    assert run(context, []) =~ "Scanned 1000 keys: 0 values were written again\n"
    assert PowRedisCache.get(context.plain, ["k", 1]) == :not_found
    assert PowRedisCache.get(context.sealing, ["k", 1]) == 1
  end

  test "counts values that do not open", context do
    other = start_instance(context, seal: SealKeys.generate("b"))
    PowRedisCache.put(other, {"key", 1})
    assert run(context, []) =~ "Scanned 1 keys: 0 values were written again, 1 did not open\n"
  end

  @tag :integration
  test "uses the instance of the app, and can be killed and run again", context do
    total = 40_000
    records = for i <- 1..total, do: {["k", i], i}
    for chunk <- Enum.chunk_every(records, 5_000), do: PowRedisCache.put(context.plain, chunk)
    app = app!(context)
    # Tries again if the task finished before the kill.
    Wait.until(fn -> kill_in_the_middle(context, app) < total end)
    assert {output, 0} = mix(app, [])
    assert output =~ ~r/^Scanned #{total} keys: \d+ values were written again$/m
    assert %{keys: ^total, resealed: 0} = PowRedisCache.reseal(name: context.sealing[:name])
    assert context.sealing |> PowRedisCache.all(["k", :_]) |> length() == total
  end

  @tag :integration
  test "exits with status 1 on an error", context do
    app = app!(context)
    assert {output, 1} = mix(app, ["--name", "App.Other"])
    assert output =~ "(Mix) info failed: App.Other is not running."
    assert {output, 1} = mix(app, ["--name", "App.Plain"])
    assert output =~ "(Mix) expected an instance with :seal, but App.Plain has none"
    assert {output, 1} = mix(app, ["--url", "redis://:s3cret@localhost"])
    assert output =~ "(Mix) expected only --name NAME and --dry-run, got other arguments."
    refute output =~ "s3cret"
  end

  # Returns the number of sealed values when the task was killed, after the plain ones were put again.
  defp kill_in_the_middle(context, app) do
    assert %{resealed: left} = PowRedisCache.reseal(name: context.sealing[:name], dry_run: true)

    if left == 0 do
      for chunk <- Enum.chunk_every(1..40_000, 5_000),
          do: PowRedisCache.put(context.plain, for(i <- chunk, do: {["k", i], i}))
    end

    {program, arguments} = TaskApp.command(app, ["pow_redis_cache.reseal"])
    task = Processes.start!(program, arguments, Path.join(app, "output"))
    Wait.until(fn -> RedisServer.info(context.server, "commandstats", "cmdstat_eval") != nil end)
    Processes.kill(task)
    "OK" = RedisClient.command!(context.client, ["CONFIG", "RESETSTAT"])

    %{keys: keys, resealed: left} =
      PowRedisCache.reseal(name: context.sealing[:name], dry_run: true)

    keys - left
  end

  # An app with two instances.
  defp app!(context) do
    url = RedisServer.url(context.server)

    TaskApp.make!("""
    children = [
      {PowRedisCache, url: "#{url}", seal: {Function, :identity, ["#{context.keys}"]}},
      {PowRedisCache, url: "#{url}", name: App.Plain}
    ]
    Supervisor.start_link(children, strategy: :one_for_one)
    """)
  end

  defp mix(app, arguments), do: TaskApp.mix(app, ["pow_redis_cache.reseal" | arguments])
end
