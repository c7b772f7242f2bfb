defmodule PowRedisCache.SealingStepsTest do
  # The steps of guides/sealing.md, each with a server that has taken it and one that has not yet.
  use PowRedisCache.Case, async: true

  alias PowRedisCache.{DocumentTables, SealKeys}

  @moduletag server: [], instance: [name: nil]

  @guide File.read!(Path.expand("../../guides/sealing.md", __DIR__))

  @user [MyApp.User, :user, 1]

  setup context do
    # As the guide says: for as long as the task runs.
    "OK" = RedisClient.command!(context.client, ~w(ACL SETUSER app +eval))
    [old: SealKeys.generate("old"), new: SealKeys.generate("new")]
  end

  describe "the guide" do
    test "names a test for each row" do
      tables = DocumentTables.read(@guide)
      assert length(tables) == 2
      Enum.each(tables, &DocumentTables.assert_tested/1)
    end

    test "shows options that are valid" do
      codes = for [_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, @guide), do: code
      assert length(codes) > 4

      for code <- codes do
        {options, _binding} = Code.eval_string("[" <> code <> "]")
        assert %{seal: seal} = PowRedisCache.Options.validate!(options)
        assert seal == nil or is_map(seal)
      end
    end
  end

  # Logins and logouts write what Pow's CredentialsCache writes.
  defp login(config, session) do
    PowRedisCache.put(config, {session, {@user, fingerprint: "f"}})
    PowRedisCache.put(config, {@user, %{id: 1}})
    PowRedisCache.put(config, {@user ++ [:session, session], 1_700_000_000_000})
  end

  # As Pow does: it deletes only what it finds.
  defp logout(config, session) do
    with {user_key, _metadata} <- PowRedisCache.get(config, session) do
      PowRedisCache.delete(config, session)
      PowRedisCache.delete(config, user_key ++ [:session, session])
    end
  end

  defp logged_in?(config, session) do
    with {user_key, _metadata} <- PowRedisCache.get(config, session),
         %{} <- PowRedisCache.get(config, user_key) do
      true
    else
      :not_found -> false
    end
  end

  defp sessions(config) do
    for {key, _at} <- PowRedisCache.all(config, @user ++ [:session, :_]), do: List.last(key)
  end

  # Two servers, on which users log in and out in turn: each finds what the other did.
  defp check(one, other) do
    for {first, second} <- [{one, other}, {other, one}] do
      login(first, "1")
      login(second, "2")
      for server <- [one, other], session <- ["1", "2"], do: assert(logged_in?(server, session))
      for server <- [one, other], do: assert(sessions(server) -- ["0"] == ["1", "2"])
      # A renewal.
      logout(second, "1")
      login(second, "3")
      assert logged_in?(first, "3")
      logout(first, "2")
      logout(second, "3")
      for server <- [one, other], do: assert(sessions(server) -- ["0"] == [])
      for server <- [one, other], session <- ~w(1 2 3), do: refute(logged_in?(server, session))
    end
  end

  # Takes steps one after the other. Who logged in before the first is logged in after the last, and each
  # server finds what one that is a step behind did. `:reseal` runs the task, beside servers that write.
  defp take(context, [first | _] = steps) do
    config = start_instance(context, seal: first)
    login(config, "0")

    Enum.reduce(steps, config, fn
      :reseal, behind ->
        beside_writes(behind, fn -> PowRedisCache.reseal(name: behind[:name]) end)
        assert %{resealed: 0, unopened: 0} = PowRedisCache.reseal(name: behind[:name])
        behind

      seal, behind ->
        ahead = start_instance(context, seal: seal)
        check(behind, ahead)
        for server <- [behind, ahead], do: assert(logged_in?(server, "0"))
        assert sessions(ahead) == ["0"]
        ahead
    end)
  end

  # Users log in and out while a function runs, until it has returned.
  defp beside_writes(config, function) do
    task = Task.async(function)
    check_until(config, fn -> Task.yield(task, 0) end)
  end

  defp check_until(config, condition) do
    check(config, config)
    unless condition.(), do: check_until(config, condition)
  end

  test "plain values are sealed in four steps", context do
    keys = context.new

    last =
      take(context, [
        nil,
        [keys: keys, write: :plain],
        [keys: keys],
        :reseal,
        [keys: keys, plain: :refuse]
      ])

    assert PowRedisCache.info(last[:name]).unopened == 0
  end

  test "a new key replaces the old one in four steps", context do
    %{old: old, new: new} = context

    take(context, [
      [keys: old, plain: :refuse],
      [keys: "#{old},#{new}", plain: :refuse],
      [keys: "#{new},#{old}", plain: :refuse],
      :reseal,
      [keys: new, plain: :refuse]
    ])
  end

  test "sealing is left in four steps", context do
    keys = context.old

    last =
      take(context, [
        [keys: keys, plain: :refuse],
        [keys: keys],
        [keys: keys, write: :plain],
        :reseal,
        nil
      ])

    assert PowRedisCache.info(last[:name]).unopened == 0
  end

  test "a server two steps ahead is not understood, and logouts are lost", context do
    plain = start_instance(context, seal: nil)
    sealing = start_instance(context, seal: context.new)
    login(sealing, "1")
    refute logged_in?(plain, "1")
    assert logout(plain, "1") == :not_found
    assert logged_in?(sealing, "1")
  end

  test "without the second step, refusing logs everyone out", context do
    plain = start_instance(context, seal: nil)
    refusing = start_instance(context, seal: [keys: context.new, plain: :refuse])
    login(plain, "1")
    refute logged_in?(refusing, "1")
  end

  test "Pow's example backend cannot read sealed values", context do
    sealing = start_instance(context, seal: context.new)
    login(sealing, "1")

    assert_raise ArgumentError, fn ->
      PowGuideStore.get(context.pow_store, [context.namespace, "1"])
    end
  end

  test "a new key that seals before all servers have it logs users out there", context do
    %{old: old, new: new} = context
    behind = start_instance(context, seal: old)
    ahead = start_instance(context, seal: "#{new},#{old}")
    login(ahead, "1")
    refute logged_in?(behind, "1")
    login(behind, "2")
    assert logged_in?(ahead, "2")
  end

  test "without its key, values that were not sealed again are lost", context do
    %{old: old, new: new} = context
    login(start_instance(context, seal: old), "1")
    refute logged_in?(start_instance(context, seal: new), "1")
  end
end
