defmodule MyAppWeb.PageController do
  use Phoenix.Controller, formats: [:html], layouts: [html: MyAppWeb.Layouts]

  def show(conn, _params), do: render(conn, :show)

  def log_out_everywhere(conn, _params) do
    :ok = MyApp.Sessions.log_out_everywhere(conn.assigns.current_user)

    # This request itself may be about to renew its session.
    conn
    |> Pow.Plug.delete()
    |> PowPersistentSession.Plug.delete()
    |> redirect(to: "/")
  end
end
