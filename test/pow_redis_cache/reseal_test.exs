defmodule PowRedisCache.ResealTest do
  # Values are written again in the form in which the instance writes them.
  use PowRedisCache.Case, async: true

  alias PowRedisCache.{Cluster, SealedValue, SealKeys}

  @moduletag server: [], instance: [name: nil]

  @ttl 600_000

  setup context do
    # As the guide says: for as long as the task runs.
    "OK" = RedisClient.command!(context.client, ~w(ACL SETUSER app +eval))
    keys = for id <- ["old", "new"], do: {id, :crypto.strong_rand_bytes(32)}
    [old, new] = keys
    start = &(context |> start_instance(seal: &1) |> Keyword.put(:ttl, @ttl))

    [
      plain: start.(nil),
      old: start.(keys: [old]),
      new: start.(keys: [new, old]),
      opening: start.(keys: [new, old], write: :plain),
      refusing: start.(keys: [new], plain: :refuse),
      new_key: elem(new, 1)
    ]
  end

  defp path(context, key),
    do: PowGuideStore.path(context.pow_store, [context.namespace | List.wrap(key)])

  defp command(context, command), do: RedisClient.command!(context.client, command)

  # The id, expiry and bytes of a sealed value, or its plain bytes.
  defp stored(context, key) do
    case command(context, ["GET", path(context, key)]) do
      <<131, _rest::binary>> = bytes -> bytes
      sealed -> SealedValue.open(sealed, context.new_key, path(context, key))
    end
  end

  defp reseal(config, options \\ []), do: PowRedisCache.reseal([name: config[:name]] ++ options)

  test "plain and older values are sealed with the first key", context do
    PowRedisCache.put(context.plain, for(i <- 1..700, do: {["plain", i], i}))
    PowRedisCache.put(context.old, for(i <- 1..300, do: {["old", i], i}))
    PowRedisCache.put(context.new, for(i <- 1..200, do: {["new", i], i}))
    command(context, ["SET", "another app's", "value"])

    expected = %{keys: 1_200, resealed: 1_000, changed: 0, unopened: 0, skipped: 0}
    assert reseal(context.new, dry_run: true) == expected
    assert PowRedisCache.all(context.plain, ["plain", :_]) |> length() == 700
    assert reseal(context.new) == expected
    assert reseal(context.new) == %{expected | resealed: 0}

    for {kind, number} <- [{"plain", 700}, {"old", 300}, {"new", 200}] do
      assert PowRedisCache.all(context.refusing, [kind, :_]) ==
               for(i <- 1..number, do: {[kind, i], i})

      assert {"new", _expires, _bytes} = stored(context, [kind, 1])
    end

    assert command(context, ["GET", "another app's"]) == "value"
  end

  test "they keep their remaining time, and their sealed expiry", context do
    PowRedisCache.put(context.plain, {"short", 1})
    PowRedisCache.put(context.old, {"sealed", 1})
    PowRedisCache.put(Keyword.put(context.plain, :ttl, :infinity), {"forever", 1})
    PowRedisCache.put(Keyword.put(context.old, :ttl, :infinity), {"sealed forever", 1})
    for key <- ["short", "sealed"], do: command(context, ["PEXPIRE", path(context, key), 100_000])
    now = System.os_time(:millisecond)
    assert %{resealed: 4} = reseal(context.new)

    for key <- ["short", "sealed"],
        do: assert(command(context, ["PTTL", path(context, key)]) in 1..100_000)

    assert {"new", expires, _bytes} = stored(context, "short")
    assert_in_delta expires, now + 100_000, 60_000
    assert {"new", expires, _bytes} = stored(context, "sealed")
    assert_in_delta expires, now + @ttl, 60_000

    for key <- ["forever", "sealed forever"] do
      assert command(context, ["PTTL", path(context, key)]) == -1
      assert {"new", :never, _bytes} = stored(context, key)
    end
  end

  test "with write: :plain, sealed values are written plain", context do
    PowRedisCache.put(context.old, for(i <- 1..10, do: {["old", i], i}))
    PowRedisCache.put(context.new, for(i <- 1..10, do: {["new", i], i}))
    assert %{keys: 20, resealed: 20} = reseal(context.opening)
    assert %{keys: 20, resealed: 0} = reseal(context.opening)
    assert stored(context, ["old", 1]) == :erlang.term_to_binary(1)
    assert PowRedisCache.all(context.plain, ["new", :_]) == for(i <- 1..10, do: {["new", i], i})
  end

  test "values that do not open are left", context do
    PowRedisCache.put(context.plain, {"plain", 1})
    PowRedisCache.put(context.old, {"old", 1})
    PowRedisCache.put(context.new, {"new", 1})
    before = for key <- ["plain", "old"], do: command(context, ["GET", path(context, key)])
    assert %{keys: 3, resealed: 0, unopened: 2} = reseal(context.refusing)

    assert before ==
             for(key <- ["plain", "old"], do: command(context, ["GET", path(context, key)]))

    # They were not read for a caller.
    assert PowRedisCache.info(context.refusing[:name]).unopened == 0
  end

  test "legacy keys are sealed so that a reindex can rename them", context do
    v1 = %{context.pow_store | version: 1, otp: 25}
    PowGuideStore.put(v1, [context.namespace, :user, 1], 1, @ttl)
    assert %{keys: 1, resealed: 1} = reseal(context.new)
    assert PowRedisCache.get(context.refusing, [:user, 1]) == 1
    assert %{renamed: 1} = PowRedisCache.reindex(name: context.new[:name])
    assert {"new", _expires, _bytes} = stored(context, [:user, 1])
    assert PowRedisCache.get(context.refusing, [:user, 1]) == 1
  end

  test "no put and no delete meanwhile is lost", context do
    numbers = 1..2_000
    PowRedisCache.put(context.plain, for(i <- numbers, do: {["k", i], 0}))

    writer =
      Task.async(fn ->
        for round <- 1..5, i <- Enum.shuffle(numbers) do
          if rem(i, 4) == 0,
            do: PowRedisCache.delete(context.plain, ["k", i]),
            else: PowRedisCache.put(Enum.random([context.plain, context.new]), {["k", i], round})
        end
      end)

    reseal_until(context.new, fn -> Task.yield(writer, 0) != nil end)
    reseal(context.new)
    left = for i <- numbers, rem(i, 4) != 0, do: {["k", i], 5}
    assert PowRedisCache.all(context.refusing, ["k", :_]) == left
    for i <- [4, 2_000], do: assert(PowRedisCache.get(context.refusing, ["k", i]) == :not_found)
  end

  defp reseal_until(config, condition) do
    reseal(config)
    unless condition.(), do: reseal_until(config, condition)
  end

  test "the next run completes an interrupted one", context do
    PowRedisCache.put(context.plain, for(i <- 1..5_000, do: {["k", i], i}))
    %{resealed: resealed} = kill_half_way(&reseal(context.new, progress: &1))
    assert resealed in 1..4_999
    assert %{resealed: rest} = reseal(context.new)
    assert rest == 5_000 - resealed
    assert PowRedisCache.all(context.refusing, ["k", :_]) == for(i <- 1..5_000, do: {["k", i], i})
  end

  @tag :integration
  test "on a cluster, the values of all primaries are sealed", context do
    cluster = Cluster.start!()
    on_exit(fn -> Cluster.stop(cluster) end)
    start = &start_on_cluster(context, cluster, &1)
    plain = start.(nil)
    keys = SealKeys.generate("a")
    sealing = start.(keys)
    refusing = start.(keys: keys, plain: :refuse)
    records = for i <- 1..3_000, do: {["k", i], i}
    PowRedisCache.put(plain, records)
    assert PowRedisCache.all(refusing, ["k", :_]) == []
    expected = %{keys: 3_000, resealed: 3_000, changed: 0, unopened: 0, skipped: 0}
    assert reseal(sealing) == expected
    assert PowRedisCache.all(refusing, ["k", :_]) == records
    assert reseal(sealing) == %{expected | resealed: 0}
  end

  defp start_on_cluster(context, cluster, seal) do
    name = unique_name()

    options = [
      name: name,
      cluster: Cluster.urls(cluster),
      seal: seal,
      index: true,
      timeout: 60_000
    ]

    start_supervised!(Supervisor.child_spec({PowRedisCache, options}, id: name))
    Keyword.put(context.config, :name, name)
  end

  test "without the permission for EVAL, an error says so", context do
    PowRedisCache.put(context.plain, {"key", 1})
    command(context, ["ACL", "SETUSER", "app", "-eval"])
    error = assert_raise PowRedisCache.Error, fn -> reseal(context.new) end
    assert %{reason: :not_permitted, operation: :reseal} = error
    assert Exception.message(error) =~ "Reseal needs EVAL as well."
  end

  test "invalid options raise", context do
    for {options, message} <- [
          {[dry_run: 1], "expected :dry_run to be true or false, got: 1"},
          {[progress: 1], "expected :progress to be a function of one argument, got: 1"}
        ] do
      assert_raise ArgumentError, message, fn -> reseal(context.new, options) end
    end

    name = context.plain[:name]
    message = "expected an instance with :seal, but #{inspect(name)} has none"
    assert_raise ArgumentError, message, fn -> PowRedisCache.reseal(name: name) end
    error = assert_raise PowRedisCache.Error, fn -> PowRedisCache.reseal(name: :nonexistent) end
    assert %{reason: :not_started, operation: :reseal} = error
  end
end
