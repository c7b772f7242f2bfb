defmodule PowRedisCache.ModelTest do
  # Compares random sequences of operations with a model: a map with expiry.
  #
  # The TTL of a record starts at some time between the begin and the end of its put, so the model stores
  # the earliest and the latest expiry. Between the two, a read may find the record or not.
  use PowRedisCache.Case, async: true

  @operations 600
  # Redis's clock for expiry may lag a little.
  @slack 20

  for index <- [true, false, [[:user, :_, :session, :_], [:user, :_]]] do
    @tag instance: [index: index, timeout: 10_000]
    test "behaves like a map with expiry, with index: #{inspect(index)}", %{config: config} do
      seed = ExUnit.configuration()[:seed]
      :rand.seed(:exsss, {seed, 3, 4})

      try do
        Enum.reduce(1..PowRedisCache.Cases.count(@operations), %{}, fn _number, model ->
          operation = operation()
          run(operation, config, model)
        end)
      rescue
        error in ExUnit.AssertionError ->
          reraise %{error | message: "#{error.message} (seed #{seed})"}, __STACKTRACE__
      end
    end
  end

  defp operation do
    case :rand.uniform(20) do
      n when n <= 5 -> {:put, records(), ttl()}
      6 -> {:put_new, key(), ttl()}
      n when n <= 8 -> {:delete, key()}
      n when n <= 13 -> {:get, key()}
      n when n <= 18 -> {:all, match()}
      _ -> {:sleep, :rand.uniform(40)}
    end
  end

  defp records, do: for(_ <- 1..:rand.uniform(4), do: {key(), :rand.uniform(1_000)})
  defp ttl, do: Enum.random([20, 60, 150, 600, 3_600_000])

  defp key do
    Enum.random([
      Enum.random(["a", "b"]),
      [Enum.random([:user, "a"]), Enum.random(1..3)],
      [:user, Enum.random(1..3), :session, Enum.random(["s", "t"])]
    ])
  end

  defp match do
    Enum.random([
      :_,
      [:_, :_],
      [:user, :_],
      [:user, :_, :session, :_],
      [:user, Enum.random(1..3), :session, :_],
      ["a", :_]
    ])
  end

  defp run({:put, records, ttl}, config, model) do
    {:ok, from, to} = timed(fn -> PowRedisCache.put(Keyword.put(config, :ttl, ttl), records) end)

    for {key, value} <- records, into: model do
      {key, {value, from + ttl, to + ttl + @slack}}
    end
  end

  defp run({:put_new, key, ttl}, config, model) do
    value = make_ref()
    config = Keyword.put(config, :ttl, ttl)
    {written?, from, to} = timed(fn -> PowRedisCache.put_new(config, {key, value}) end)

    case Map.get(model, key) do
      {_value, earliest, _latest} when to < earliest -> refute written?
      {_value, _earliest, latest} when from > latest -> assert written?
      {_value, _earliest, _latest} -> :uncertain
      nil -> assert written?
    end

    if written?, do: Map.put(model, key, {value, from + ttl, to + ttl + @slack}), else: model
  end

  defp run({:delete, key}, config, model) do
    :ok = PowRedisCache.delete(config, key)
    Map.delete(model, key)
  end

  defp run({:get, key}, config, model) do
    {found, from, to} = timed(fn -> PowRedisCache.get(config, key) end)

    case Map.get(model, key) do
      {value, earliest, _latest} when to < earliest -> assert found == value
      {_value, _earliest, latest} when from > latest -> assert found == :not_found
      {value, _earliest, _latest} -> assert found in [value, :not_found]
      nil -> assert found == :not_found
    end

    model
  end

  defp run({:all, match}, config, model) do
    {found, from, to} = timed(fn -> PowRedisCache.all(config, match) end)
    namespace = config[:namespace]
    select = fn records -> ets_all(namespace, records, match) end

    certain = for {key, {value, earliest, _}} <- model, to < earliest, do: {key, value}
    possible = for {key, {value, _, latest}} <- model, from <= latest, do: {key, value}

    assert select.(certain) -- found == []
    assert found -- select.(possible) == []
    assert found == Enum.sort_by(found, fn {key, _value} -> List.wrap(key) end)
    model
  end

  # Expiry depends on the clock only, so there is no condition to wait for.
  defp run({:sleep, ms}, _config, model) do
    Process.sleep(ms)
    model
  end

  defp timed(function) do
    from = System.monotonic_time(:millisecond)
    result = function.()
    {result, from, System.monotonic_time(:millisecond) + 1}
  end
end
