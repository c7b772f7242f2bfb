defmodule PowRedisCache.TermsTest do
  # Invalid terms: writing one raises, and reading one from Redis ignores it.
  use PowRedisCache.Case, async: true

  describe "invalid input raises" do
    test "for functions", %{config: config} do
      message = "expected a value without functions: a function does not survive a deploy"

      assert_raise ArgumentError, message, fn ->
        PowRedisCache.put(config, {"key", [fn -> 1 end]})
      end

      assert_raise ArgumentError, message, fn ->
        PowRedisCache.put(config, {"key", &is_atom/1})
      end

      message = "expected a key without functions: a function does not survive a deploy"

      assert_raise ArgumentError, message, fn ->
        PowRedisCache.get(config, ["key", &is_atom/1])
      end

      assert PowRedisCache.get(config, "key") == :not_found
    end

    test "for terms nested too deeply", %{config: config} do
      deep = Enum.reduce(1..300, [], fn _, term -> {term} end)

      assert_raise ArgumentError, "expected a value nested at most 256 terms deep", fn ->
        PowRedisCache.put(config, {"key", deep})
      end
    end

    test "for improper lists as keys", %{config: config} do
      message = "expected the key to be a binary, an atom or a proper list, got: an improper list"
      assert_raise ArgumentError, message, fn -> PowRedisCache.get(config, ["a" | "b"]) end
      assert_raise ArgumentError, message, fn -> PowRedisCache.delete(config, ["a" | "b"]) end
      assert_raise ArgumentError, message, fn -> PowRedisCache.put(config, {["a" | "b"], 1}) end
    end

    test "for patterns that :ets rejects", %{config: config} do
      message = "expected literal map keys in the pattern, got: :_ or a variable"
      assert_raise ArgumentError, message, fn -> PowRedisCache.all(config, [%{:"$1" => 1}]) end
    end

    test "for anything but records", %{config: config} do
      message = "expected a record {key, value} or a list of records"
      assert_raise ArgumentError, message, fn -> PowRedisCache.put(config, "key") end
      assert_raise ArgumentError, message, fn -> PowRedisCache.put(config, [{"key", 1, 2}]) end
    end
  end

  describe "values from Redis" do
    test "are ignored if they are invalid", %{
      config: config,
      pow_store: pow_store,
      client: client,
      namespace: ns
    } do
      PowRedisCache.put(config, [{["a", "bad"], 1}, {["a", "good"], 2}])

      for bad <- [
            "",
            "text",
            <<131>>,
            <<131, 97>>,
            <<131, 97, 1, 0>>,
            :erlang.term_to_binary(String.duplicate("x", 1000), [:compressed]),
            :erlang.term_to_binary(&is_atom/1),
            <<131, 116, 2::32, 97, 1, 97, 1, 97, 1, 97, 2>>
          ] do
        RedisClient.command!(client, ["SET", PowGuideStore.path(pow_store, [ns, "a", "bad"]), bad])

        assert PowRedisCache.get(config, ["a", "bad"]) == :not_found
        assert PowRedisCache.all(config, ["a", :_]) == [{["a", "good"], 2}]
      end
    end

    @tag instance: [decode: :safe]
    test "are ignored if they contain unknown atoms, with decode: :safe", %{
      config: config,
      pow_store: pow_store,
      client: client,
      namespace: ns
    } do
      PowRedisCache.put(config, [{["a", "bad"], 1}, {["a", "good"], :ok}])
      unknown = "unknown_atom_#{System.unique_integer([:positive])}"
      value = <<131, 119, byte_size(unknown), unknown::binary>>

      RedisClient.command!(client, ["SET", PowGuideStore.path(pow_store, [ns, "a", "bad"]), value])

      assert PowRedisCache.get(config, ["a", "bad"]) == :not_found
      assert PowRedisCache.all(config, ["a", :_]) == [{["a", "good"], :ok}]
      assert_raise ArgumentError, fn -> String.to_existing_atom(unknown) end
    end

    test "create no atoms for keys that do not match", %{
      config: config,
      pow_store: pow_store,
      client: client,
      namespace: ns
    } do
      PowRedisCache.put(config, {["a", "k"], 1})
      unknown = "unknown_atom_#{System.unique_integer([:positive])}"
      part = Base.url_encode64(<<131, 119, byte_size(unknown), unknown::binary>>, padding: false)
      score = System.os_time(:millisecond) + 60_000

      RedisClient.command!(client, [
        "ZADD",
        PowGuideStore.index_set(pow_store, [ns]),
        score,
        PowGuideStore.path(pow_store, ["b"]) <> ":" <> part
      ])

      assert [_] = PowRedisCache.all(config, [:_, "k"])
      assert_raise ArgumentError, fn -> String.to_existing_atom(unknown) end
    end
  end
end
