defmodule PowRedisCache.LiveUserTest do
  # With Pow and LiveView, or where they are not available, with the modules that stand in for them.
  use PowRedisCache.Case, async: true

  defmodule Backend do
    use PowRedisCache
  end

  @moduletag :integration
  @moduletag instance: [name: Backend, index: :sessions]

  if not Code.ensure_loaded?(Phoenix.LiveView), do: @moduletag(skip: "LiveView is not available")

  alias Pow.Store.CredentialsCache
  alias PowRedisCache.{LiveUser, PowDevice, Renewals}
  alias PowRedisCache.PowDevice.User

  defmodule Endpoint do
    def config(:secret_key_base), do: PowDevice.secret_key_base()
  end

  setup context do
    pow = [
      cache_store_backend: Backend,
      credentials_cache_store: {CredentialsCache, namespace: context.namespace}
    ]

    device = pow |> PowDevice.new() |> PowDevice.log_in(%User{id: 1, email: "ann@example.com"})
    [device: device, pow: pow]
  end

  test "assigns the user of the session", %{device: device, pow: pow} do
    assert {:cont, socket} = mount(device, pow)
    assert socket.assigns.current_user == %User{id: 1, email: "ann@example.com"}
    assert {:cont, socket} = mount(device, [current_user_assigns_key: :user] ++ pow)
    assert socket.assigns.user.id == 1
  end

  test "keeps the user that the plug has assigned", %{device: device, pow: pow} do
    socket = %{socket() | assigns: Map.put(socket().assigns, :current_user, %User{id: 2})}
    session = PowDevice.plug_session(device)
    assert {:cont, socket} = LiveUser.on_mount(pow, %{}, session, socket)
    assert socket.assigns.current_user.id == 2
  end

  test "redirects without a user", %{device: device, pow: pow} do
    {_conn, logged_out} = PowDevice.request(device, &Pow.Plug.delete/1)

    # Logged out, never logged in, logged out since the page was rendered, and a forged id.
    sessions = [
      PowDevice.plug_session(logged_out),
      %{},
      PowDevice.plug_session(device),
      %{"auth" => "forged"}
    ]

    for session <- sessions do
      assert {:halt, socket} = LiveUser.on_mount(pow, %{}, session, socket())
      assert {:redirect, %{to: "/"}} = socket.redirected
    end

    options = [redirect_to: "/session/new"] ++ pow
    assert {:halt, socket} = LiveUser.on_mount(options, %{}, %{}, socket())
    assert {:redirect, %{to: "/session/new"}} = socket.redirected
  end

  test "follows a renewal that is recorded", %{device: device, pow: pow} do
    old = PowDevice.plug_session(device)
    [old_id] = session_ids(pow)
    due = %{device | config: Keyword.put(device.config, :session_ttl_renewal, -1)}
    {_user, _renewed} = PowDevice.visit(due)
    assert {:halt, _socket} = LiveUser.on_mount(pow, %{}, old, socket())

    [new_id] = session_ids(pow)
    Renewals.renewed(pow, [old_id], %{session_id: new_id, token: nil}, 60_000)
    assert {:cont, socket} = LiveUser.on_mount(pow, %{}, old, socket())
    assert socket.assigns.current_user.id == 1
  end

  defp mount(device, pow),
    do: LiveUser.on_mount(pow, %{}, PowDevice.plug_session(device), socket())

  defp socket, do: struct(Phoenix.LiveView.Socket, endpoint: Endpoint)

  defp session_ids(pow) do
    {store, store_config} = Pow.Plug.Base.store(pow)
    store.sessions(store_config, %User{id: 1})
  end
end
