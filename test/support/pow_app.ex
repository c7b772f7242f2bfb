if match?({:module, _}, Code.ensure_compiled(Pow.Plug.Session)) do
  defmodule PowRedisCache.PowApp do
    @moduledoc """
    An app with Pow's plugs behind HTTP. Its pages answer with the id of the user, or `nobody`:

      * `/login`, `/keep` - logs in user 1, with `/keep` also with a persistent session;
      * `/logout` - logs out;
      * `/flash` - changes Plug's session;
      * `/switch` - logs in user 2;
      * `/update` - creates a new session for the user, as when a user is updated;
      * all others.

    A request with the header `x-gate: page PORT` stops at a `PowRedisCache.Gate` in its page.
    """

    import Plug.Conn

    alias PowPersistentSession.Plug.Cookie
    alias PowRedisCache.{Gate, HttpServer}
    alias PowRedisCache.Plug.RenewalGrace
    alias PowRedisCache.PowDevice.Users

    @session Plug.Session.init(store: :cookie, key: "_app", signing_salt: "salt")

    @doc """
    Starts the app with Pow's configuration. `grace` is that of `RenewalGrace`, or `nil` for an app without
    it. Returns its port.
    """
    def start!(config, grace) do
      _started_or_stand_in = Application.ensure_all_started(:plug)
      HttpServer.start!(&call(&1, config, grace))
    end

    @doc "Calls the plugs and the page."
    def call(conn, config, grace) do
      conn |> pass(config, grace) |> page()
    end

    @doc "Calls the plugs."
    def pass(conn, config, grace) do
      conn
      |> Plug.Session.call(@session)
      |> renewal_grace(config, grace)
      |> Pow.Plug.Session.call(Pow.Plug.Session.init(config))
      |> Cookie.call(Cookie.init([]))
    end

    defp renewal_grace(conn, _config, nil), do: conn

    defp renewal_grace(conn, config, grace),
      do: RenewalGrace.call(conn, RenewalGrace.init([grace: grace] ++ config))

    @doc "Calls the page of a conn that has passed through the plugs."
    def page(conn) do
      Gate.stop_at("page", List.keyfind(conn.req_headers, "x-gate", 0))
      show(conn)
    end

    defp show(%{request_path: "/login"} = conn), do: conn |> Pow.Plug.create(user()) |> answer()

    defp show(%{request_path: "/keep"} = conn) do
      conn
      |> Pow.Plug.create(user())
      |> Cookie.create(user(), Pow.Plug.fetch_config(conn))
      |> answer()
    end

    defp show(%{request_path: "/logout"} = conn),
      do: conn |> Pow.Plug.delete() |> Cookie.delete(Pow.Plug.fetch_config(conn)) |> answer()

    defp show(%{request_path: "/flash"} = conn),
      do: conn |> fetch_session() |> put_session(:flash, "hello") |> answer()

    defp show(%{request_path: "/switch"} = conn),
      do: conn |> Pow.Plug.create(Users.get_by(id: 2)) |> answer()

    defp show(%{request_path: "/update"} = conn),
      do: conn |> Pow.Plug.create(Pow.Plug.current_user(conn)) |> answer()

    defp show(conn), do: answer(conn)

    defp user, do: Users.get_by(id: 1)

    defp answer(conn) do
      body = if user = Pow.Plug.current_user(conn), do: "#{user.id}", else: "nobody"
      send_resp(conn, 200, body)
    end
  end
end
