defmodule MyAppWeb.Logins do
  @moduledoc "Users, and devices on which they are logged in."

  import ExUnit.Assertions
  import Phoenix.ConnTest

  @endpoint MyAppWeb.Endpoint
  @pow [otp_app: :my_app]
  @password "correct horse"

  def register(name) do
    params = %{
      "email" => "#{name}#{System.unique_integer([:positive])}@example.com",
      "password" => @password,
      "password_confirmation" => @password
    }

    {:ok, user} = Pow.Operations.create(params, @pow)
    user
  end

  @doc "A device that is logged in: the conn of its latest request, from which the next has its cookies."
  def log_in(user, options \\ []) do
    keep = if options[:keep], do: "true", else: "false"
    params = %{"email" => user.email, "password" => @password, "persistent_session" => keep}
    user_agent = Keyword.get(options, :user_agent, "Test")
    conn = build_conn() |> Plug.Conn.put_req_header("user-agent", user_agent)
    conn = post(conn, "/session", %{"user" => params})
    assert redirected_to(conn) == "/"
    conn
  end

  def logged_in?(device, user) do
    current_user = get(device, "/").assigns.current_user
    current_user != nil and current_user.id == user.id
  end

  def expire_sessions(user) do
    {store, config} = Pow.Plug.Base.store(@pow)
    for session <- store.sessions(config, user), do: store.delete(config, session)
  end
end
