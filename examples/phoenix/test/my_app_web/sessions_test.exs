defmodule MyAppWeb.SessionsTest do
  use ExUnit.Case

  import Phoenix.ConnTest

  alias Ecto.Adapters.SQL.Sandbox

  @endpoint MyAppWeb.Endpoint
  @pow [otp_app: :my_app]
  @password "correct horse"

  setup do
    owner = Sandbox.start_owner!(MyApp.Repo, shared: true)
    on_exit(fn -> Sandbox.stop_owner(owner) end)

    [user: register("ann")]
  end

  test "a session is in Redis until its device logs out", %{user: user} do
    device = log_in(user)
    assert [_session] = sessions(user)
    assert logged_in?(device, user)

    device = delete(device, "/session")
    assert sessions(user) == []
    refute logged_in?(device, user)
  end

  test "a token outlives the session and logs in once", %{user: user} do
    device = log_in(user)
    expire_sessions(user)
    assert logged_in?(device, user)
    assert [_session] = sessions(user)

    # The browser would have a new token by now; the old one no longer works.
    expire_sessions(user)
    refute logged_in?(device, user)
  end

  test "there is no token without the checkbox", %{user: user} do
    device = log_in(user, "false")
    expire_sessions(user)
    refute logged_in?(device, user)
  end

  test "a user is logged out everywhere, and other users are not", %{user: user} do
    other = register("bob")
    [laptop, phone, others] = [log_in(user), log_in(user), log_in(other)]
    delete(laptop, "/sessions")
    refute logged_in?(laptop, user)
    refute logged_in?(phone, user)
    assert logged_in?(others, other)
    expire_sessions(other)
    assert logged_in?(others, other)
  end

  test "logging out everywhere includes a request that has just used its token", %{user: user} do
    device = log_in(user)
    expire_sessions(user)
    device = delete(device, "/sessions")
    assert sessions(user) == []
    refute logged_in?(device, user)
  end

  test "a token resets the password once and logs out everywhere", %{user: user} do
    device = log_in(user)
    conn = Pow.Plug.put_config(%{build_conn() | secret_key_base: secret_key_base()}, @pow)

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

  defp register(name) do
    params = %{
      "email" => "#{name}#{System.unique_integer([:positive])}@example.com",
      "password" => @password,
      "password_confirmation" => @password
    }

    {:ok, user} = Pow.Operations.create(params, @pow)
    user
  end

  defp log_in(user, keep \\ "true") do
    params = %{"email" => user.email, "password" => @password, "persistent_session" => keep}
    conn = post(build_conn(), "/session", %{"user" => params})
    assert redirected_to(conn) == "/"
    conn
  end

  # Sends the cookies that the device had after the request `device`.
  defp logged_in?(device, user) do
    device |> get("/") |> html_response(200) =~ "#{user.email} is logged in"
  end

  defp sessions(user) do
    {store, config} = Pow.Plug.Base.store(@pow)
    PowRedisCache = config[:backend]
    store.sessions(config, user)
  end

  defp expire_sessions(user) do
    {store, config} = Pow.Plug.Base.store(@pow)
    for session <- store.sessions(config, user), do: store.delete(config, session)
  end

  defp secret_key_base, do: MyAppWeb.Endpoint.config(:secret_key_base)
end
