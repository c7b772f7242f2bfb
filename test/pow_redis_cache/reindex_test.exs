defmodule PowRedisCache.ReindexTest do
  # test/compatibility/pow_guide_store_test.exs tests the effect on keys.
  use PowRedisCache.Case, async: true

  @moduletag server: ["--enable-debug-command", "yes"]

  @ttl 600_000

  # Writes legacy keys like v1 of Pow's example backend.
  defp write_legacy(context, numbers) do
    v1 = %{context.pow_store | version: 1, otp: 25}

    for chunk <- Enum.chunk_every(numbers, 2_000) do
      commands =
        Enum.flat_map(
          chunk,
          &PowGuideStore.put_commands(v1, [context.namespace, :user, &1], &1, @ttl)
        )

      {:ok, _replies} = RedisClient.pipeline(context.client, commands)
    end
  end

  # A digest of all keys, values and TTLs, and the number of changes since the start.
  defp state(client) do
    [changes] = Regex.run(~r/rdb_changes_since_last_save:\d+/, info(client))
    {RedisClient.command!(client, ["DEBUG", "DIGEST"]), changes}
  end

  defp info(client), do: RedisClient.command!(client, ["INFO", "persistence"])

  describe "a dry run" do
    test "writes nothing and counts what a run would change", context do
      %{client: client, config: config, name: name} = context
      write_legacy(context, Enum.to_list(1..3_000))
      PowRedisCache.put(config, for(i <- 1..500, do: {["ours", i], i}))
      # One of the two index sets lacks a member.
      set = PowGuideStore.index_set(context.pow_store, [context.namespace, "ours"])
      RedisClient.command!(client, ["ZREM", set, PowGuideStore.path(context.pow_store, [7])])
      before = state(client)

      numbers = PowRedisCache.reindex(name: name, dry_run: true)
      assert numbers == %{keys: 3_500, indexed: 3_001, renamed: 3_000, skipped: 0}
      assert state(client) == before

      assert %{indexed: 3_001, renamed: 3_000} = PowRedisCache.reindex(name: name)
      refute state(client) == before

      numbers = PowRedisCache.reindex(name: name, dry_run: true)
      assert numbers == %{keys: 3_500, indexed: 0, renamed: 0, skipped: 0}
    end

    @tag instance: [index: false]
    test "without index counts only renames", %{config: config, name: name} = context do
      write_legacy(context, [1, 2])
      PowRedisCache.put(config, {["ours", 1], 1})
      before = state(context.client)
      numbers = %{keys: 3, indexed: 0, renamed: 2, skipped: 0}
      assert PowRedisCache.reindex(name: name, dry_run: true) == numbers
      assert state(context.client) == before
      assert %{indexed: 0, renamed: 2} = PowRedisCache.reindex(name: name)
      assert PowRedisCache.reindex(name: name) == %{keys: 3, indexed: 0, renamed: 0, skipped: 0}
    end

    test "works on a read-only replica", %{client: client, name: name} = context do
      write_legacy(context, [1])
      "OK" = RedisClient.command!(client, ["REPLICAOF", "127.0.0.1", Ports.free()])
      numbers = %{keys: 1, indexed: 1, renamed: 1, skipped: 0}
      assert PowRedisCache.reindex(name: name, dry_run: true) == numbers
    end
  end

  describe "the progress" do
    @tag :integration
    test "is the scanned part of the database",
         %{client: client, name: name} = context do
      total = 20_000
      write_legacy(context, Enum.to_list(1..total))
      pages = collect(name, dry_run: true)
      assert length(pages) > 30

      for %{keys: keys, fraction: fraction} <- pages do
        assert_in_delta fraction, keys / total, 0.03
      end

      # The fraction includes the keys of other applications.
      others = for i <- 1..60_000, do: ["SET", "another app's #{i}", "x"]
      for chunk <- Enum.chunk_every(others, 10_000), do: RedisClient.pipeline(client, chunk)
      pages = collect(name, [])
      # A page has about 512 keys.
      for {%{fraction: fraction}, i} <- Enum.with_index(pages, 1) do
        assert_in_delta fraction, i / length(pages), 0.05
      end

      assert List.last(pages).fraction == 1.0
    end

    test "of an empty database is 1.0", %{name: name} do
      assert collect(name, []) == [%{keys: 0, indexed: 0, renamed: 0, skipped: 0, fraction: 1.0}]
    end

    # The counts after each page. The fraction never decreases.
    defp collect(name, options) do
      test = self()
      reference = make_ref()
      progress = &send(test, {reference, &1})
      PowRedisCache.reindex([name: name, progress: progress] ++ options)
      pages = received(reference)
      fractions = for page <- pages, do: page.fraction
      assert fractions == Enum.sort(fractions)
      pages
    end

    defp received(reference) do
      receive do
        {^reference, page} -> [page | received(reference)]
      after
        0 -> []
      end
    end
  end

  test "the next run completes an interrupted one", context do
    %{client: client, config: config, name: name} = context
    write_legacy(context, Enum.to_list(1..5_000))
    numbers = kill_half_way(&PowRedisCache.reindex(name: name, progress: &1))
    assert numbers.renamed in 1..4_999
    set = PowGuideStore.index_set(context.pow_store, [context.namespace, :user])
    assert RedisClient.command!(client, ["ZCARD", set]) == numbers.renamed

    rest = PowRedisCache.reindex(name: name)
    assert rest.renamed == 5_000 - numbers.renamed
    assert rest.indexed == 5_000 - numbers.indexed
    assert PowRedisCache.all(config, [:user, :_]) == for(i <- 1..5_000, do: {[:user, i], i})
  end

  test "rejects invalid options" do
    for {options, message} <- [
          {[dry_run: "yes"], ~s(expected :dry_run to be true or false, got: "yes")},
          {[progress: 1], "expected :progress to be a function of one argument, got: 1"}
        ] do
      assert_raise ArgumentError, message, fn -> PowRedisCache.reindex(options) end
    end

    assert_raise ArgumentError, ~r/unknown keys \[:dryrun\]/, fn ->
      PowRedisCache.reindex(dryrun: true)
    end
  end
end
