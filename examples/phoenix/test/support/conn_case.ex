defmodule MyAppWeb.ConnCase do
  @moduledoc "Tests with a database connection of their own, users, and devices that are logged in."
  use ExUnit.CaseTemplate

  import ExUnit.Assertions
  import Phoenix.ConnTest

  alias Ecto.Adapters.SQL.Sandbox

  @endpoint MyAppWeb.Endpoint
  @pow [otp_app: :my_app]
  @password "correct horse"

  using do
    quote do
      import MyAppWeb.ConnCase
      import Phoenix.ConnTest
      import Plug.Conn

      @endpoint MyAppWeb.Endpoint
    end
  end

  setup do
    owner = Sandbox.start_owner!(MyApp.Repo, shared: true)
    on_exit(fn -> Sandbox.stop_owner(owner) end)

    [user: register("ann")]
  end

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
    device |> get("/") |> html_response(200) =~ "#{user.email} is logged in"
  end

  def expire_sessions(user) do
    {store, config} = Pow.Plug.Base.store(@pow)
    for session <- store.sessions(config, user), do: store.delete(config, session)
  end
end
