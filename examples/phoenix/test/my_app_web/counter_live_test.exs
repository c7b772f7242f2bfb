defmodule MyAppWeb.CounterLiveTest do
  use MyAppWeb.ConnCase, async: true

  import MyAppWeb.Logins

  import Phoenix.LiveViewTest

  alias PowRedisCache.Sessions

  setup do
    [user: register("ann")]
  end

  test "counts while its user is logged in", %{user: user} do
    {:ok, view, page} = user |> log_in() |> live("/counter")
    assert page =~ "#{user.email} is connected"
    assert view |> element("button", "Add") |> render_click() =~ ~s(<output id="count">1</output>)
  end

  test "leaves the page if the session has ended before it connects", %{user: user} do
    conn = user |> log_in() |> get("/counter")
    expire_sessions(user)
    assert {:error, {:redirect, %{to: "/"}}} = live(conn)
  end

  test "requires a user" do
    assert build_conn() |> get("/counter") |> redirected_to() =~ "/session/new"
  end

  test "is disconnected when its session is logged out, and others are not", %{user: user} do
    [laptop, phone] = [log_in(user), log_in(user)]
    [laptop_id, phone_id] = for device <- [laptop, phone], do: subscribe(device)

    delete(laptop, "/devices/others")
    assert_receive %{topic: ^phone_id, event: "disconnect"}
    refute_received %{topic: ^laptop_id}

    delete(laptop, "/session")
    assert_receive %{topic: ^laptop_id, event: "disconnect"}
  end

  test "is disconnected when the user is logged out outside a request", %{user: user} do
    id = user |> log_in() |> subscribe()
    Sessions.log_out_everywhere(user, otp_app: :my_app, endpoint: MyAppWeb.Endpoint)
    assert_receive %{topic: ^id, event: "disconnect"}
  end

  # The socket of a LiveView subscribes to this topic, and closes when it receives "disconnect".
  defp subscribe(device) do
    id = get_session(device, "live_socket_id")
    :ok = MyAppWeb.Endpoint.subscribe(id)
    id
  end
end
