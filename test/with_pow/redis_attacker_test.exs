defmodule PowRedisCache.RedisAttackerTest do
  # What who reads or writes the database of an app can do, without and with sealed values.
  # With Pow, or where it is not available, with the modules that stand in for it.
  use PowRedisCache.Case, async: true

  defmodule Backend do
    use PowRedisCache
  end

  @moduletag :integration
  @moduletag :standalone
  # The attacker has the database for itself. What it writes is read at once.
  @moduletag server: [], instance: [name: Backend, index: :sessions, near_cache: false, seal: nil]

  alias PowRedisCache.PowDevice
  alias PowRedisCache.PowDevice.Users

  @cookie "persistent_session"
  @sealed [keys: [{"a", :binary.list_to_bin(Enum.to_list(1..32))}], plain: :refuse]

  setup %{client: client} do
    device = PowDevice.new(cache_store_backend: Backend)
    victim = PowDevice.log_in(device, Users.get_by(id: 1), keep: true)
    own = PowDevice.log_in(device, Users.get_by(id: 2), keep: true)
    [victim: victim, own: own, keys: keys(client)]
  end

  describe "who reads the database" do
    test "reads the users", %{client: client, keys: keys} do
      values = for key <- keys, do: value(client, key)
      assert Enum.any?(values, &(is_binary(&1) and &1 =~ "user1@example.com"))
    end

    test "sees in the keys who is logged in", %{keys: keys} do
      assert Enum.any?(keys, &match?([_namespace, _user, :user, 1, :session, _id], parts(&1)))
    end

    test "finds no cookie: Pow signs the tokens that it sends", %{victim: victim, keys: keys} do
      victim = PowDevice.without_session(victim)
      signed = victim.cookies[@cookie]
      # Restores the session of its user.
      assert {%{id: 1}, _device} = PowDevice.visit(victim)

      tokens = for key <- keys, part <- parts(key), is_binary(part), uniq: true, do: part
      assert length(tokens) >= 4

      for token <- tokens do
        assert signed != token
        forged = %{victim | cookies: %{@cookie => token}}
        assert {nil, _device} = PowDevice.visit(forged)
      end
    end
  end

  describe "who writes the database" do
    test "logs in as another user, with a session of its own", context do
      %{client: client, own: own, victim: victim, keys: keys} = context
      assert {%{id: 2}, _device} = PowDevice.visit(own)
      [theirs, ours] = for user <- [1, 2], do: session(client, keys, user)
      RedisClient.command!(client, ["SET", ours, RedisClient.command!(client, ["GET", theirs])])
      assert {%{id: 1}, _device} = PowDevice.visit(own)
      assert {%{id: 1}, _device} = PowDevice.visit(victim)
    end

    test "logs users out", %{client: client, victim: victim} do
      RedisClient.command!(client, ["FLUSHALL"])
      assert {nil, _device} = PowDevice.visit(victim)
    end
  end

  describe "with sealed values, who reads the database" do
    @describetag instance: [name: Backend, index: :sessions, near_cache: false, seal: @sealed]

    test "reads no user, and sees in the keys who is logged in", %{client: client, keys: keys} do
      values = for key <- keys, value = value(client, key), do: value
      assert length(values) >= 6
      refute Enum.any?(values, &(&1 =~ "example.com"))
      assert Enum.any?(keys, &match?([_namespace, _user, :user, 1, :session, _id], parts(&1)))
    end
  end

  describe "with sealed values, who writes the database" do
    @describetag instance: [name: Backend, index: :sessions, near_cache: false, seal: @sealed]

    test "logs in as no other user", context do
      %{client: client, own: own, keys: keys} = context
      [theirs, ours] = for user <- [1, 2], do: session(client, keys, user)
      sealed = RedisClient.command!(client, ["GET", theirs])
      plain = :erlang.term_to_binary({[PowDevice.User, :user, 1], []})
      # The persistent session of the account restores its own user.
      own = %{own | cookies: Map.delete(own.cookies, @cookie)}
      assert {%{id: 2}, _device} = PowDevice.visit(own)

      for forged <- [sealed, plain, :erlang.term_to_binary(%PowDevice.User{id: 1})] do
        RedisClient.command!(client, ["SET", ours, forged])
        assert {nil, _device} = PowDevice.visit(own)
      end

      assert Backend.info().unopened >= 3
    end

    test "logs users out, and brings a session back that was logged out", context do
      %{client: client, victim: victim, keys: keys} = context
      victim = %{victim | cookies: Map.delete(victim.cookies, @cookie)}
      session = session(client, keys, 1)
      before = RedisClient.command!(client, ["GET", session])
      RedisClient.command!(client, ["DEL", session])
      assert {nil, _device} = PowDevice.visit(victim)
      RedisClient.command!(client, ["SET", session, before])
      assert {%{id: 1}, _device} = PowDevice.visit(victim)
    end
  end

  defp keys(client), do: RedisClient.command!(client, ~w(KEYS *))

  # The value of a key, `nil` for an index set.
  defp value(client, key) do
    if RedisClient.command!(client, ["TYPE", key]) == "string",
      do: RedisClient.command!(client, ["GET", key])
  end

  # The parts of a key of a record, `[]` for an index set.
  defp parts("_index:" <> _set), do: []

  defp parts(key) do
    for part <- String.split(key, ":"),
        do: part |> Base.url_decode64!(padding: false) |> :erlang.binary_to_term()
  end

  # The Redis key of the session of a user: its id is the last part of another key.
  defp session(client, keys, user) do
    [id] = for [_, _, :user, ^user, :session, id] <- Enum.map(keys, &parts/1), do: id
    [key] = for key <- keys, match?([_namespace, ^id], parts(key)), do: key
    assert value(client, key)
    key
  end
end
