defmodule PowRedisCache.PutNewTest do
  # Writing a record unless its key exists.
  use PowRedisCache.Case, async: true

  test "writes a record unless its key exists", %{config: config} do
    for key <- ["key", [:user, 1]] do
      assert PowRedisCache.put_new(config, {key, 1})
      refute PowRedisCache.put_new(config, {key, 2})
      assert PowRedisCache.get(config, key) == 1
      assert PowRedisCache.all(config, key) == [{key, 1}]

      PowRedisCache.delete(config, key)
      assert PowRedisCache.put_new(config, {key, 3})
      PowRedisCache.put(config, {key, 4})
      refute PowRedisCache.put_new(config, {key, 5})
      assert PowRedisCache.get(config, key) == 4
    end
  end

  test "writes one of many records", %{config: config} do
    values = Enum.map(1..20, fn _number -> make_ref() end)

    written =
      values
      |> Enum.map(&Task.async(fn -> {&1, PowRedisCache.put_new(config, {"key", &1})} end))
      |> Task.await_many(60_000)

    assert [value] = for({value, true} <- written, do: value)
    assert PowRedisCache.get(config, "key") == value
  end

  test "the very same record counts as written", %{config: config} do
    assert PowRedisCache.put_new(config, {"key", 1})
    assert PowRedisCache.put_new(config, {"key", 1})
  end

  test "takes the TTL, and leaves that of an existing key", %{config: config} do
    config = Keyword.put(config, :ttl, 50)
    assert PowRedisCache.put_new(config, {"key", 1})
    Wait.until(fn -> PowRedisCache.get(config, "key") == :not_found end)
    PowRedisCache.put(Keyword.put(config, :ttl, :infinity), {"key", 2})
    refute PowRedisCache.put_new(config, {"key", 3})
    assert PowRedisCache.all(config, :_) == [{"key", 2}]
  end

  test "takes large keys and values", %{config: config} do
    record = {String.duplicate("k", 5_000), String.duplicate("v", 100_000)}
    assert PowRedisCache.put_new(config, record)
    assert PowRedisCache.get(config, elem(record, 0)) == elem(record, 1)
  end

  test "takes one record without functions", %{config: config} do
    assert_raise ArgumentError, "expected a record {key, value} or a list of records", fn ->
      PowRedisCache.put_new(config, "key")
    end

    assert_raise ArgumentError, ~r/expected a value without functions/, fn ->
      PowRedisCache.put_new(config, {"key", fn -> 1 end})
    end
  end

  test "waits for Redis, also with writes: :async", %{config: config} do
    config = Keyword.put(config, :writes, :async)
    assert PowRedisCache.put_new(config, {"key", 1}) == true
    assert PowRedisCache.put_new(config, {"key", 2}) == false
  end
end
