defmodule PowRedisCache.SealingTest do
  # Sealed values in Redis, made and opened by another implementation too.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureLog

  alias PowRedisCache.{SealedValue, SealKeys}

  @moduletag server: []

  # The key of the known answers.
  @id "2026-11"
  @key :binary.list_to_bin(Enum.to_list(0x80..0x9F))
  @keys [{@id, @key}]
  @ttl 600_000

  defp path(context, key),
    do: PowGuideStore.path(context.pow_store, [context.namespace | List.wrap(key)])

  defp stored(context, key), do: RedisClient.command!(context.client, ["GET", path(context, key)])

  defp store(context, key, bytes) do
    "OK" = RedisClient.command!(context.client, ["SET", path(context, key), bytes])
  end

  defp start(context, seal), do: start_instance(context, seal: seal)
  defp now, do: System.os_time(:millisecond)
  defp external(term), do: :erlang.term_to_binary(term)

  # The same bytes are in the tests of the native library. They must never change.
  @golden [
    {1_800_000_000_000,
     "ae01323032362d31310000000000000001a3185c5000404142434445464748494a4b4c4d4e4f5051525354555657726d749a4a5312ce312574d4aa4178f6945d02"},
    {:never,
     "ae01323032362d313100000000007fffffffffffffff404142434445464748494a4b4c4d4e4f5051525354555657726d74b65119d8291e19578885ff548fdae67f"}
  ]

  test "the golden bytes are those of another implementation" do
    nonce = :binary.list_to_bin(Enum.to_list(0x40..0x57))

    for {expires, golden} <- @golden do
      sealed = SealedValue.seal(<<131, 97, 7>>, hd(@keys), "g20AAAABbg:g2EB", expires, nonce)
      assert Base.encode16(sealed, case: :lower) == golden
      expected = {@id, expires, <<131, 97, 7>>}
      assert SealedValue.open(sealed, @key, "g20AAAABbg:g2EB") == expected
    end
  end

  describe "a sealed value" do
    @describetag instance: [seal: [keys: @keys, plain: :refuse]]

    test "is in Redis as the format says", context do
      config = Keyword.put(context.config, :ttl, @ttl)
      term = %{email: "ann@example.com", hash: "$2b$12$" <> String.duplicate("x", 53)}
      before = now()
      assert PowRedisCache.put(config, {[:user, 1], term}) == :ok
      sealed = stored(context, [:user, 1])
      refute sealed =~ "ann@example.com"
      assert byte_size(sealed) == byte_size(external(term)) + 62
      assert {@id, expires, bytes} = SealedValue.open(sealed, @key, path(context, [:user, 1]))
      assert :erlang.binary_to_term(bytes) == term
      # The clock of Redis is that of this machine.
      assert_in_delta expires, before + @ttl, 60_000
      assert PowRedisCache.get(config, [:user, 1]) == term
      assert PowRedisCache.all(config, [:user, :_]) == [{[:user, 1], term}]
    end

    test "without TTL never expires", context do
      PowRedisCache.put(Keyword.put(context.config, :ttl, :infinity), {"key", 1})
      sealed = stored(context, "key")
      assert {@id, :never, _bytes} = SealedValue.open(sealed, @key, path(context, "key"))
    end

    test "of another implementation opens", context do
      store(
        context,
        "key",
        SealedValue.seal(external(1), hd(@keys), path(context, "key"), now() + @ttl)
      )

      assert PowRedisCache.get(context.config, "key") == 1
    end

    test "of any size opens, also of many records", context do
      for size <- [0, 1, 1_000, 100_000, 10_000_000] do
        value = :binary.copy("v", size)
        PowRedisCache.put(context.config, {"key", value})
        assert PowRedisCache.get(context.config, "key") == value
      end

      records = for i <- 1..2_000, do: {["many", i], i}
      PowRedisCache.put(context.config, records)
      assert PowRedisCache.all(context.config, ["many", :_]) == records
    end

    test "differs each time", context do
      values =
        for _ <- 1..100 do
          PowRedisCache.put(context.config, {"key", 1})
          stored(context, "key")
        end

      assert Enum.uniq(values) == values
    end

    test "is compared by put_new/2 after opening", context do
      %{config: config} = context
      assert PowRedisCache.put_new(config, {"key", 1})
      assert PowRedisCache.put_new(config, {"key", 1})
      refute PowRedisCache.put_new(config, {"key", 2})
      assert PowRedisCache.get(config, "key") == 1

      assert {@id, _expires, _bytes} =
               SealedValue.open(stored(context, "key"), @key, path(context, "key"))
    end

    test "under a legacy key opens, and after reindex/1 renamed it", context do
      %{config: config, pow_store: pow_store, client: client} = context
      PowRedisCache.put(config, {[:user, 1], 1})
      legacy = PowGuideStore.path(%{pow_store | otp: 25}, [context.namespace, :user, 1])
      RedisClient.command!(client, ["RENAME", path(context, [:user, 1]), legacy])
      assert PowRedisCache.get(config, [:user, 1]) == 1
      assert %{renamed: 1} = PowRedisCache.reindex(name: context.name)
      assert RedisClient.command!(client, ["EXISTS", legacy]) == 0
      assert PowRedisCache.get(config, [:user, 1]) == 1
      assert PowRedisCache.all(config, [:user, :_]) == [{[:user, 1], 1}]
    end
  end

  describe "a value that does not open" do
    @describetag instance: [seal: [keys: @keys, plain: :refuse]]

    setup context do
      PowRedisCache.put(context.config, [{["a", 1], 1}, {["a", 2], 2}])
      [sealed: stored(context, ["a", 1])]
    end

    test "is missing, reported and counted", context do
      %{sealed: sealed, config: config} = context
      other = :crypto.strong_rand_bytes(32)
      path = path(context, ["a", 1])
      seal = &SealedValue.seal(external(1), &1, path, &2)

      for {bytes, reason} <- [
            {seal.({"other", other}, :never), :unknown_key},
            {seal.({@id, other}, :never), :tampered},
            {flip(sealed, byte_size(sealed) - 1), :tampered},
            {flip(sealed, 50), :tampered},
            {flip(sealed, 20), :tampered},
            {binary_part(sealed, 0, byte_size(sealed) - 1), :tampered},
            {binary_part(sealed, 0, 10), :tampered},
            {sealed <> "x", :tampered},
            {stored(context, ["a", 2]), :tampered},
            {<<0xAE, 2>> <> binary_part(sealed, 2, byte_size(sealed) - 2), :tampered},
            {seal.(hd(@keys), now() - 120_000), :expired},
            {external(1), :plain_refused},
            {"", :plain_refused}
          ] do
        store(context, ["a", 1], bytes)

        assert unopened(context, fn ->
                 assert PowRedisCache.get(config, ["a", 1]) == :not_found
               end) == [reason]

        assert unopened(context, fn ->
                 assert PowRedisCache.all(config, ["a", :_]) == [{["a", 2], 2}]
               end) == [reason]
      end
    end

    test "blocks neither another put nor a delete", context do
      %{config: config} = context
      store(context, ["a", 1], <<0xAE>> <> "s3cret")
      assert PowRedisCache.delete(config, ["a", 1]) == :ok
      assert stored(context, ["a", 1]) == nil
      store(context, ["a", 1], "s3cret")
      assert PowRedisCache.put(config, {["a", 1], 3}) == :ok
      assert PowRedisCache.get(config, ["a", 1]) == 3
    end

    test "is logged at most once a second for each reason", context do
      %{config: config, name: name} = context
      store(context, ["a", 1], external(:s3cret))
      store(context, ["a", 2], flip(context.sealed, 60))

      log =
        capture_log(fn ->
          for _ <- 1..50, do: assert(PowRedisCache.all(config, ["a", :_]) == [])
          :sys.get_state(name)
        end)

      assert log =~
               "#{inspect(name)}: ignored 1 values read from Redis that are not sealed. If this package wrote"

      assert log =~
               "ignored 1 values read from Redis that do not open: they were changed, moved, or"

      assert log |> String.split("ignored") |> length() < 10
      refute log =~ "s3cret"
    end
  end

  # The reasons with which values were counted during a call.
  defp unopened(context, call) do
    before = PowRedisCache.info(context.name).unopened

    :sys.replace_state(context.name, fn state ->
      %{state | events: %{state.events | quiet: %{}}}
    end)

    call.()
    count = PowRedisCache.info(context.name).unopened - before

    reasons =
      for {{:unopened_values, reason}, _} <- :sys.get_state(context.name).events.quiet, do: reason

    assert length(reasons) == count
    reasons
  end

  defp flip(bytes, position) do
    <<start::binary-size(position), byte, rest::binary>> = bytes
    start <> <<Bitwise.bxor(byte, 1)>> <> rest
  end

  describe "an instance" do
    test "without :seal takes sealed values for missing", context do
      sealing = start(context, SealKeys.generate("a"))
      PowRedisCache.put(sealing, {"key", 1})
      assert PowRedisCache.get(context.config, "key") == :not_found
      assert PowRedisCache.info(context.name).unopened == 1
    end

    test "seals with the first key and opens with all", context do
      other = :crypto.strong_rand_bytes(32)
      old = start(context, keys: [{"old", other}])
      new = start(context, keys: [{"new", @key}, {"old", other}])
      PowRedisCache.put(old, {"old", 1})
      PowRedisCache.put(new, {"new", 2})

      assert {"new", _expires, _bytes} =
               SealedValue.open(stored(context, "new"), @key, path(context, "new"))

      assert PowRedisCache.get(new, "old") == 1
      assert PowRedisCache.get(old, "new") == :not_found
    end

    test "with write: :plain opens, and writes what others read", context do
      sealing = start(context, @keys |> then(&[keys: &1]))
      opening = start(context, keys: @keys, write: :plain)
      PowRedisCache.put(sealing, {"sealed", 1})
      PowRedisCache.put(opening, {"plain", 2})
      assert PowRedisCache.get(opening, "sealed") == 1
      assert stored(context, "plain") == external(2)
      assert PowRedisCache.get(context.config, "plain") == 2
      assert PowRedisCache.get(sealing, "plain") == 2
    end

    test "takes its keys from a function, once", context do
      counter = :counters.new(1, [])

      keys = fn ->
        :counters.add(counter, 1, 1)
        @keys
      end

      config = start(context, keys)
      for i <- 1..100, do: PowRedisCache.put(config, {"key", i})
      assert PowRedisCache.get(config, "key") == 100
      assert :counters.get(counter, 1) == 1
    end
  end
end
