defmodule MyAppWeb.SessionsTest do
  use MyAppWeb.ConnCase

  import MyAppWeb.Logins

  alias PowRedisCache.Sessions

  @pow [otp_app: :my_app]

  setup do
    [user: register("ann")]
  end

  test "a session lasts until its device logs out", %{user: user} do
    device = log_in(user)
    assert [_session] = Sessions.list(user, @pow)
    assert logged_in?(device, user)

    device = delete(device, "/session")
    assert Sessions.list(user, @pow) == []
    refute logged_in?(device, user)
  end

  test "a token outlives the session", %{user: user} do
    device = log_in(user, keep: true)
    expire_sessions(user)
    assert logged_in?(device, user)
    assert [%{persistent?: true, began_at: %DateTime{}}] = Sessions.list(user, @pow)
  end

  test "there is no token without the checkbox", %{user: user} do
    device = log_in(user, keep: false)
    expire_sessions(user)
    refute logged_in?(device, user)
  end

  test "a user is logged out everywhere, and other users are not", %{user: user} do
    other = register("bob")
    [laptop, phone, tablet] = [log_in(user), log_in(user, keep: true), log_in(other)]

    laptop = delete(laptop, "/devices")
    refute logged_in?(laptop, user)
    refute logged_in?(phone, user)
    assert logged_in?(tablet, other)
  end

  test "a token resets the password once and logs out everywhere", %{user: user} do
    device = log_in(user, keep: true)
    secret_key_base = MyAppWeb.Endpoint.config(:secret_key_base)
    conn = Pow.Plug.put_config(%{build_conn() | secret_key_base: secret_key_base}, @pow)

    {:ok, %{token: token}, _conn} =
      PowResetPassword.Plug.create_reset_token(conn, %{"email" => user.email})

    reset = fn ->
      params = %{"password" => "battery staple", "password_confirmation" => "battery staple"}
      put(build_conn(), "/reset-password/" <> token, %{"user" => params})
    end

    assert redirected_to(reset.()) == "/session/new"
    refute logged_in?(device, user)
    assert redirected_to(reset.()) == "/reset-password/new"
  end
end
