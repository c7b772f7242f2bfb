defmodule MyAppWeb.DeviceControllerTest do
  use MyAppWeb.ConnCase, async: true

  import MyAppWeb.Logins

  alias PowRedisCache.Sessions

  setup do
    [user: register("ann")]
  end

  test "lists the devices of a user", %{user: user} do
    laptop = log_in(user, user_agent: "Laptop")
    log_in(user, user_agent: "Phone", keep: true)
    log_in(register("bob"), user_agent: "Tablet")

    page = laptop |> get("/devices") |> html_response(200)
    assert [phone_row, laptop_row] = rows(page)
    assert laptop_row =~ "Laptop"
    assert laptop_row =~ "127.0.0.1"
    assert laptop_row =~ "this device"
    refute laptop_row =~ "kept logged in"
    assert phone_row =~ "Phone"
    assert phone_row =~ "kept logged in"
    refute phone_row =~ "this device"

    for %{began_at: began_at} <- Sessions.list(user, otp_app: :my_app),
        do: assert(page =~ DateTime.to_iso8601(began_at))
  end

  test "logs out one device", %{user: user} do
    laptop = log_in(user, user_agent: "Laptop")
    phone = log_in(user, user_agent: "Phone", keep: true)

    [%{metadata: [ip: "127.0.0.1", user_agent: "Phone"], fingerprint: fingerprint}] =
      Enum.reject(Sessions.list(user, conn: get(laptop, "/")), & &1.current?)

    conn = delete(laptop, "/devices/#{fingerprint}")
    assert redirected_to(conn) == "/devices"
    refute logged_in?(phone, user)
    assert logged_in?(laptop, user)
  end

  test "does not log out a device of another user", %{user: user} do
    other = register("bob")
    tablet = log_in(other)
    [%{fingerprint: fingerprint}] = Sessions.list(other, otp_app: :my_app)

    delete(log_in(user), "/devices/#{fingerprint}")
    assert logged_in?(tablet, other)
  end

  test "logs out all other devices", %{user: user} do
    other = register("bob")
    [laptop, phone, tablet] = [log_in(user), log_in(user, keep: true), log_in(other)]

    assert laptop |> delete("/devices/others") |> redirected_to() == "/devices"
    refute logged_in?(phone, user)
    assert logged_in?(laptop, user)
    assert logged_in?(tablet, other)
  end

  test "logs out everywhere", %{user: user} do
    [laptop, phone] = [log_in(user, keep: true), log_in(user, keep: true)]

    laptop = delete(laptop, "/devices")
    assert redirected_to(laptop) == "/"
    refute logged_in?(laptop, user)
    refute logged_in?(phone, user)
    assert Sessions.list(user, otp_app: :my_app) == []
  end

  test "logs out everywhere in a request that has just used its token", %{user: user} do
    device = log_in(user, keep: true)
    expire_sessions(user)
    device = delete(device, "/devices")
    refute logged_in?(device, user)
    assert Sessions.list(user, otp_app: :my_app) == []
  end

  test "requires a user" do
    assert build_conn() |> get("/devices") |> redirected_to() =~ "/session/new"
    assert build_conn() |> delete("/devices") |> redirected_to() =~ "/session/new"
  end

  # The device that was renewed last is the first.
  defp rows(page) do
    [_header | rows] = String.split(page, "<tr>")
    [_labels | rows] = if hd(rows) =~ "<th>", do: rows, else: [nil | rows]
    rows
  end
end
