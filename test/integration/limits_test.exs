defmodule PowRedisCache.LimitsTest do
  # The limits of keys, values, results and queues, through the public API. The unit tests of the core
  # have the exact limits.
  use PowRedisCache.Case, async: true

  import PowRedisCache.Diagnosis, only: [detail: 2]

  alias PowRedisCache.{Doctor, Error}

  # For tests that write large values, or keys that others would count.
  @server [server: []]

  # Writes to Redis what the package would refuse to write.
  defp set(context, key, value) do
    redis_key = PowGuideStore.path(context.pow_store, [context.namespace | List.wrap(key)])
    RedisClient.command!(context.client, ["SET", redis_key, value])
  end

  describe "a key" do
    test "has at most 64 parts", context do
      longest = Enum.to_list(1..64)
      assert PowRedisCache.put(context.config, {longest, :value}) == :ok
      assert PowRedisCache.get(context.config, longest) == :value
      assert PowRedisCache.all(context.config, List.duplicate(:_, 64)) == [{longest, :value}]
      assert PowRedisCache.delete(context.config, longest) == :ok

      message = "expected a key of at most 64 parts and 16 kB when encoded. Shorten it"
      too_long = Enum.to_list(1..65)

      for call <- [
            fn -> PowRedisCache.put(context.config, {too_long, :value}) end,
            fn -> PowRedisCache.get(context.config, too_long) end,
            fn -> PowRedisCache.delete(context.config, too_long) end
          ],
          do: assert_raise(ArgumentError, message, call)

      message = "expected a pattern of at most 64 parts and 16 kB when encoded. Shorten it"

      assert_raise ArgumentError, message, fn ->
        PowRedisCache.all(context.config, too_long)
      end
    end

    test "has at most 16 kB", context do
      key = String.duplicate("x", 12_000)
      assert PowRedisCache.put(context.config, {key, :value}) == :ok
      assert PowRedisCache.get(context.config, key) == :value
      assert PowRedisCache.all(context.config, :_) == [{key, :value}]

      for length <- [12_300, 1_000_000] do
        assert_raise ArgumentError, ~r/expected a key of at most 64 parts and 16 kB/, fn ->
          PowRedisCache.get(context.config, String.duplicate("x", length))
        end
      end
    end
  end

  describe "a value" do
    @tag @server
    test "has at most 64 MB when encoded", context do
      # A binary has 6 more bytes when it is encoded.
      longest = :binary.copy("x", 64 * 1_024 * 1_024 - 6)
      assert PowRedisCache.put(context.config, {"key", longest}) == :ok
      assert PowRedisCache.get(context.config, "key") == longest

      message = "expected a value of at most 64 MB when encoded. Shorten it"

      assert_raise ArgumentError, message, fn ->
        PowRedisCache.put(context.config, {"key", longest <> "x"})
      end

      set(context, "key", :erlang.term_to_binary(longest <> "x"))
      assert PowRedisCache.get(context.config, "key") == :not_found
      assert PowRedisCache.all(context.config, "key") == []
    end

    @tag @server
    test "takes at most 128 MB of memory", context do
      # Each element takes 16 bytes, but only one when it is encoded.
      most = 128 * 1_024 * 1_024
      longest = List.duplicate([], div(most, 16))
      assert PowRedisCache.put(context.config, {"key", longest}) == :ok
      assert PowRedisCache.get(context.config, "key") == longest

      message = "expected a value that takes at most 128 MB of memory. Store less in it"

      assert_raise ArgumentError, message, fn ->
        PowRedisCache.put(context.config, {"key", [[] | longest]})
      end

      set(context, "key", :erlang.term_to_binary([[] | longest]))
      assert PowRedisCache.get(context.config, "key") == :not_found
      assert PowRedisCache.all(context.config, "key") == []
    end

    test "has at most 8,192 different atoms", context do
      atoms = fn number -> for i <- 1..number, do: :"limits_test_#{i}" end
      longest = atoms.(8_192)
      assert PowRedisCache.put(context.config, {"key", longest ++ longest}) == :ok
      assert PowRedisCache.get(context.config, "key") == longest ++ longest

      message =
        "expected a value with at most 8,192 different atoms. Use strings as keys of large maps"

      assert_raise ArgumentError, message, fn ->
        PowRedisCache.put(context.config, {"key", atoms.(8_193)})
      end

      set(context, "key", :erlang.term_to_binary(atoms.(8_193)))
      assert PowRedisCache.get(context.config, "key") == :not_found
    end
  end

  @tag @server
  test "all/2 raises if the records take more than 512 MB", context do
    value = :binary.copy("x", 60_000_000)
    for id <- 1..4, do: PowRedisCache.put(context.config, {["large", id], value})
    assert [{["large", 1], ^value} | _] = PowRedisCache.all(context.config, ["large", :_])

    PowRedisCache.put(context.config, {["large", 5], value})

    error = assert_raise Error, fn -> PowRedisCache.all(context.config, ["large", :_]) end

    assert error.reason == :result_too_large
    assert PowRedisCache.get(context.config, ["large", 5]) == value
    assert %{reconnects: 0} = PowRedisCache.info(context.name)
  end

  describe "a queue" do
    @tag @server
    @tag instance: [max_queue_bytes: 1_000_000, writes: :async]
    test "holds a limited number of bytes while Redis hangs, also asynchronously", context do
      config = context.config
      assert PowRedisCache.ping(context.name) == :ok
      RedisServer.pause(context.server)
      value = :binary.copy("x", 100_000)

      results =
        for id <- 1..50 do
          try do
            PowRedisCache.put(config, {id, value})
          rescue
            error in Error -> error.reason
          end
        end

      assert Enum.frequencies(results) == %{ok: 9, busy: 41}
      assert PowRedisCache.info(context.name).queue_bytes in 900_000..1_000_000
      RedisServer.resume(context.server)
      Wait.until(fn -> PowRedisCache.info(context.name).queue_bytes == 0 end)

      assert for(id <- 1..10, do: PowRedisCache.get(config, id)) ==
               List.duplicate(value, 9) ++ [:not_found]
    end

    @tag instance: [max_queue: 1_000_000_000]
    test "allocates nothing for places that are free", context do
      assert PowRedisCache.put(context.config, {"key", 1}) == :ok
      assert PowRedisCache.get(context.config, "key") == 1
    end
  end

  describe "Redis keys that are too long" do
    @describetag @server

    setup context do
      PowRedisCache.put(context.config, {"key", 1})
      many_parts = Enum.map_join(1..24_000, ":", fn _ -> "g2EB" end)
      long = String.duplicate("A", 20_000)
      for name <- [many_parts, long], do: RedisClient.command!(context.client, ["SET", name, "x"])
      :ok
    end

    test "are skipped and counted by a reindex", context do
      for dry_run <- [true, false] do
        numbers = PowRedisCache.reindex(name: context.name, dry_run: dry_run)
        assert numbers == %{keys: 1, indexed: 0, renamed: 0, skipped: 2}
      end
    end

    test "are skipped and counted by the doctor", context do
      detail = [name: context.name] |> Doctor.check() |> detail("keys")
      assert detail =~ "#{inspect(context.namespace)} 1;"
      assert detail =~ "; skipped 2 with more than 64 parts or 16 kB"
    end
  end
end
