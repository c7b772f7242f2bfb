defmodule MyAppWeb.DeviceController do
  @moduledoc "The devices on which a user is logged in."
  use Phoenix.Controller, formats: [:html], layouts: [html: MyAppWeb.Layouts]

  alias PowRedisCache.Sessions

  def index(conn, _params) do
    render(conn, :index, devices: Sessions.list(conn.assigns.current_user, conn: conn))
  end

  def log_out(conn, %{"fingerprint" => fingerprint}) do
    :ok = Sessions.log_out(conn.assigns.current_user, fingerprint, conn: conn)
    conn |> put_flash(:info, "The device is logged out.") |> redirect(to: "/devices")
  end

  def log_out_others(conn, _params) do
    :ok = Sessions.log_out_others(conn)
    conn |> put_flash(:info, "All other devices are logged out.") |> redirect(to: "/devices")
  end

  def log_out_everywhere(conn, _params) do
    :ok = Sessions.log_out_everywhere(conn.assigns.current_user, conn: conn)

    # This request itself may be about to renew its session.
    conn
    |> Pow.Plug.delete()
    |> PowPersistentSession.Plug.delete()
    |> put_flash(:info, "You are logged out everywhere.")
    |> redirect(to: "/")
  end
end
