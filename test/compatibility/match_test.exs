defmodule PowRedisCache.MatchTest do
  # Compares all/2, and with it the matcher, with :ets on random keys and patterns.
  use PowRedisCache.Case, async: true

  alias PowRedisCache.{Cases, Terms}

  @keys 40
  @patterns 100
  @rounds 26

  setup do
    seed = ExUnit.configuration()[:seed]
    :rand.seed(:exsss, {seed, 1, 2})
    [seed: seed]
  end

  # Each case is a pattern matched against the keys of its round.
  for index <- [true, false, :sessions, [[:_], [:_, :_], [:user, :_, :_], [:a, :_]]] do
    @tag instance: [index: index]
    test "all/2 matches like :ets with index: #{inspect(index)}", context do
      cases =
        for round <- 1..Cases.count(@rounds) do
          config = Keyword.put(context.config, :namespace, {context.namespace, round})
          records = records(context, config)
          for _ <- 1..@patterns, do: check(config, records, context.seed)
          for {key, _value} <- records, do: PowRedisCache.delete(config, key)
          @patterns
        end

      assert Enum.sum(cases) >= Cases.count(2_500)
    end
  end

  # A third of the records were written by Pow's example backend on Erlang/OTP 25.
  defp records(context, config) do
    # Without index sets, v1 writes the same keys.
    version = if context.instance[:index], do: 2, else: 1
    pow_store = %{context.pow_store | otp: 25, version: version}
    keys = for _ <- 1..@keys, do: Terms.key()

    for {key, number} <- keys |> Enum.uniq_by(&List.wrap/1) |> Enum.with_index() do
      if rem(number, 3) == 0 do
        PowGuideStore.put(pow_store, [config[:namespace] | List.wrap(key)], number, 600_000)
      else
        PowRedisCache.put(config, {key, number})
      end

      {key, number}
    end
  end

  defp check(config, records, seed) do
    match = Terms.pattern(Enum.map(records, &elem(&1, 0)))

    case ets(config[:namespace], records, match) do
      {:ok, expected} ->
        found = PowRedisCache.all(config, match)

        assert keys(found) == keys(expected) and exact(found) === exact(expected),
               "seed #{seed}, match #{inspect(match)}\n" <>
                 "missing: #{inspect(expected -- found)}\nunexpected: #{inspect(found -- expected)}"

      :invalid ->
        assert_raise ArgumentError, fn -> PowRedisCache.all(config, match) end
    end
  end

  defp keys(records), do: Enum.map(records, &elem(&1, 0))

  # Keys that are equal but not identical, such as 1 and 1.0, have no defined order.
  defp exact(records), do: records |> Enum.map(&:erlang.term_to_binary/1) |> Enum.sort()

  defp ets(namespace, records, match) do
    {:ok, ets_all(namespace, records, match)}
  rescue
    ArgumentError -> :invalid
  end
end
