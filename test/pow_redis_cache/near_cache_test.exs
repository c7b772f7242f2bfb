defmodule PowRedisCache.NearCacheTest do
  # The tables of a near cache, with the native library's answers made up.
  use ExUnit.Case, async: true

  alias PowRedisCache.{NearCache, Options}

  @stamp {7, 1, 3, 5, 0}

  # Not the validity of the native library: the handle is what it answers, or a function.
  def valid?(true, _shard, _version, _epoch, _expires_at), do: true

  def valid?(handle, shard, version, epoch, expires_at) when is_function(handle),
    do: handle.({shard, version, epoch, expires_at})

  defp new(options \\ [], handle \\ true) do
    %{near_cache: options} = Options.validate!(near_cache: options)
    NearCache.new(handle, options, &__MODULE__.valid?/5)
  end

  @namespace "credentials"

  defp get(cache, key, namespace \\ @namespace), do: NearCache.fetch(cache, namespace, key)

  defp store(cache, key, value, stamp \\ @stamp, namespace \\ @namespace),
    do: NearCache.store(cache, namespace, key, value, stamp)

  # Stores until the younger generation is full, and returns how many were stored.
  defp fill(cache, stored \\ 0) do
    store(cache, {:filling, stored}, String.duplicate("x", 60))

    receive do
      {:near_cache_full, generation} -> {generation, stored}
    after
      0 -> fill(cache, stored + 1)
    end
  end

  describe "a namespace" do
    test "is kept if it is named" do
      cache = new(namespaces: ["credentials", :cache])

      for namespace <- ["credentials", :cache] do
        assert NearCache.keeps?(cache, namespace)
        assert get(cache, "key", namespace) == :miss
      end

      for namespace <- ["cache", {self(), "credentials"}] do
        refute NearCache.keeps?(cache, namespace)
        assert get(cache, "key", namespace) == :not_kept
      end

      refute NearCache.keeps?(nil, "credentials")
      assert get(nil, "key", "credentials") == :not_kept
      assert NearCache.info(cache).misses == 2
    end

    test "has keys of its own" do
      cache = new(namespaces: ["credentials", :cache])
      store(cache, "key", 1, @stamp, "credentials")
      store(cache, "key", 2, @stamp, :cache)
      assert get(cache, "key", "credentials") == {:ok, 1}
      assert get(cache, "key", :cache) == {:ok, 2}
      assert NearCache.info(cache).entries == 2
      NearCache.clear(cache)
      assert NearCache.info(cache).entries == 0
    end
  end

  describe "an entry" do
    test "is found while it is valid, with what it was stamped with" do
      valid = :atomics.new(1, [])
      :atomics.put(valid, 1, 1)
      cache = new([], fn {7, 1, 3, 5} -> :atomics.get(valid, 1) == 1 end)
      assert get(cache, "key") == :miss
      store(cache, "key", %{a: 1})
      assert get(cache, "key") == {:ok, %{a: 1}}
      :atomics.put(valid, 1, 0)
      assert get(cache, "key") == :miss
      assert %{misses: 2, entries: 1} = NearCache.info(cache)
    end

    test "is replaced by a later one" do
      cache = new([], fn {_shard, version, _epoch, _expires_at} -> version == 2 end)
      store(cache, "key", :old, {7, 1, 3, 5, 0})
      assert get(cache, "key") == :miss
      store(cache, "key", :new, {7, 2, 3, 5, 0})
      assert get(cache, "key") == {:ok, :new}
      assert NearCache.info(cache).entries == 1
    end

    test "has any value" do
      cache = new()

      for value <- [
            nil,
            false,
            :not_found,
            :miss,
            1.0,
            [1 | 2],
            %{},
            self(),
            String.duplicate("x", 999)
          ] do
        store(cache, "key", value)
        assert get(cache, "key") === {:ok, value}
      end
    end

    test "has a key of strings, atoms and integers, also nested" do
      cache = new()

      keys = [
        "",
        "key",
        :key,
        1,
        [],
        ["a"],
        [User, :user, 1],
        [User, :user, [id: 1, org: {"b", 2}]]
      ]

      for key <- keys, do: store(cache, key, key)
      for key <- keys, do: assert(get(cache, key) === {:ok, key})
      assert NearCache.info(cache).entries == length(keys)
    end

    test "with another key is not kept: in Redis, equal ones may be two" do
      cache = new()

      for part <- [0.0, -0.0, 1.5, %{a: 1}, <<1::3>>, self(), make_ref(), [1, 2.0], {0.0}],
          key <- [part, [part], ["a", part]] do
        store(cache, key, 1)
        assert get(cache, key) == :miss
      end

      assert NearCache.info(cache).entries == 0
    end

    test "keeps no larger binary in memory that its key is a part of" do
      cache = new()
      request = :crypto.strong_rand_bytes(10_000)
      key = binary_part(request, 5_000, 100)
      store(cache, [key], 1)

      %{@namespace => {first, _, _}} = cache.namespaces
      assert [{[stored], 1, _, _, _, _, _}] = :ets.tab2list(first)
      assert :binary.referenced_byte_size(stored) < 200
      assert get(cache, [key]) == {:ok, 1}
    end

    test "is not kept if it is larger than a 64th of the memory" do
      cache = new(max_bytes: 1_048_576)
      store(cache, "heap", Enum.to_list(1..1_025))
      store(cache, "outside", "x", {7, 1, 3, 5, 16_384})
      assert NearCache.info(cache).entries == 0
      store(cache, "heap", Enum.to_list(1..1_000))
      store(cache, "outside", "x", {7, 1, 3, 5, 16_300})
      assert NearCache.info(cache).entries == 2
    end
  end

  describe "the memory" do
    test "is that of the tables, and of what their values have outside of them" do
      cache = new()
      %{bytes: empty} = NearCache.info(cache)
      binary = :crypto.strong_rand_bytes(5_000)
      store(cache, "key", binary, {7, 1, 3, 5, 5_000})
      assert_in_delta NearCache.info(cache).bytes, empty + 5_000, 400
      # Replaced.
      store(cache, "key", binary, {7, 1, 3, 5, 6_000})
      assert_in_delta NearCache.info(cache).bytes, empty + 6_000, 400
      NearCache.clear(cache)
      assert NearCache.info(cache).bytes == empty
    end

    test "is never more than :max_bytes, and nothing is kept until a full generation is swapped" do
      cache = new(max_bytes: 1_048_576)
      {generation, stored} = fill(cache)
      assert stored > 1_000
      assert %{entries: ^stored, bytes: bytes, swaps: 0} = NearCache.info(cache)
      assert bytes in 524_288..1_048_576
      # Reported once.
      store(cache, "key", 1)
      refute_received {:near_cache_full, _}
      assert get(cache, "key") == :miss

      NearCache.swap(cache, generation)
      assert %{entries: ^stored, swaps: 1} = NearCache.info(cache)
      store(cache, "key", 1)
      assert get(cache, "key") == {:ok, 1}
      # Late.
      NearCache.swap(cache, generation)
      assert %{swaps: 1} = NearCache.info(cache)
    end

    test "loses the older generation, except what is read" do
      cache = new(max_bytes: 1_048_576)
      {generation, stored} = fill(cache)
      NearCache.swap(cache, generation)
      assert get(cache, {:filling, 1}) == {:ok, String.duplicate("x", 60)}
      assert NearCache.info(cache).entries == stored + 1

      {generation, _stored} = fill(cache, stored)
      NearCache.swap(cache, generation)
      assert {:ok, _} = get(cache, {:filling, 1})
      assert get(cache, {:filling, 2}) == :miss
      assert {:ok, _} = get(cache, {:filling, stored})
      assert NearCache.info(cache).bytes < 1_048_576
    end

    test "of values outside of the tables fills a generation too" do
      cache = new(max_bytes: 1_048_576)
      for number <- 1..34, do: store(cache, number, "x", {7, 1, 3, 5, 16_000})
      assert_received {:near_cache_full, generation}
      NearCache.swap(cache, generation)
      NearCache.swap(cache, generation + 1)
      assert NearCache.info(cache).bytes < 100_000
    end

    test "stays bounded while many processes fill and read it" do
      cache = new(max_bytes: 1_048_576)

      fillers =
        for filler <- 1..8 do
          Task.async(fn ->
            for number <- 1..5_000 do
              store(cache, [filler, number], String.duplicate("x", 100), {7, 1, 3, 5, 100})
              for back <- [0, 1, 100], do: get(cache, [filler, number - back])
            end
          end)
        end

      most = swap_until_done(cache, fillers, 0)
      # Each process may add one more than fits.
      assert most < 1_048_576 + 8 * 16_384
      assert %{swaps: swaps, misses: misses} = NearCache.info(cache)
      assert swaps > 5 and misses < 8 * 5_000 * 3
    end
  end

  test "after clear/1, there is nothing" do
    cache = new()
    store(cache, "key", 1)
    NearCache.clear(cache)
    assert get(cache, "key") == :miss
    assert %{entries: 0, swaps: 0} = NearCache.info(cache)
    store(cache, "key", 1)
    assert get(cache, "key") == {:ok, 1}
  end

  test "without its owner, there is nothing, and nothing raises" do
    cache = fn -> new() end |> Task.async() |> Task.await()
    assert get(cache, "key") == :miss
    assert store(cache, "key", 1) == :ok
    assert %{entries: 0} = NearCache.info(cache)
  end

  # Swaps like the owner of an instance, and returns the most bytes that were in use.
  defp swap_until_done(cache, [], most), do: max(most, NearCache.info(cache).bytes)

  defp swap_until_done(cache, [%{ref: done} | _] = tasks, most) do
    receive do
      {:near_cache_full, generation} ->
        bytes = NearCache.info(cache).bytes
        NearCache.swap(cache, generation)
        swap_until_done(cache, tasks, max(most, bytes))

      {^done, _result} ->
        Process.demonitor(done, [:flush])
        swap_until_done(cache, tl(tasks), most)
    end
  end
end
