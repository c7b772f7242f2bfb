defmodule PowRedisCache.TestingWithPowTest do
  # Pow's stores with the backend for tests.
  use PowRedisCache.Case, async: false

  alias PowRedisCache.{PowDevice, Sessions, Testing}
  alias PowRedisCache.PowDevice.Users

  @moduletag :integration
  @moduletag server: [], instance: [name: PowRedisCache, index: :sessions]

  setup context, do: Testing.isolate(context)

  test "sessions and tokens are those of the test", %{client: client} do
    user = Users.get_by(id: 1)
    config = [cache_store_backend: Testing]
    device = PowDevice.log_in(PowDevice.new(config), user, keep: true)
    assert {^user, device} = PowDevice.visit(device)
    assert {^user, _device} = device |> PowDevice.without_session() |> PowDevice.visit()
    options = [persistent_session_store: {PowRedisCache.PersistentSessionStore, []}] ++ config
    assert [%{persistent?: true}] = Sessions.list(user, options)

    # Redis has them under names that no other test uses.
    assert RedisClient.command!(client, ["DBSIZE"]) > 0
    assert PowRedisCache.all([namespace: "credentials"], :_) == []
    assert PowRedisCache.all([namespace: "persistent_session"], :_) == []
  end
end
