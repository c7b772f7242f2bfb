defmodule MyAppWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :my_app

  alias Plug.Conn.WrapperError

  @session [store: :cookie, key: "_my_app", signing_salt: "pow", same_site: "Lax"]

  socket "/live", Phoenix.LiveView.Socket, websocket: [connect_info: [session: @session]]

  plug MyAppWeb.Readiness

  # LiveView's JavaScript, as its packages bring it.
  plug Plug.Static, at: "/js", from: {:phoenix, "priv/static"}, only: ["phoenix.min.js"]

  plug Plug.Static,
    at: "/js",
    from: {:phoenix_live_view, "priv/static"},
    only: ["phoenix_live_view.min.js"]

  plug Plug.Telemetry, event_prefix: [:phoenix, :endpoint]
  plug Plug.Parsers, parsers: [:urlencoded]
  plug Plug.MethodOverride
  plug Plug.Head
  plug Plug.Session, @session
  plug :put_device
  plug PowRedisCache.Plug.RenewalGrace, otp_app: :my_app
  plug Pow.Plug.Session, otp_app: :my_app
  plug PowPersistentSession.Plug.Cookie
  plug PowRedisCache.Plug.TrackSession
  plug MyAppWeb.Router

  # When Redis is away, the error page says when to try again. It is sent with the first conn: a later
  # one has callbacks of Pow, which call Redis before a response is sent.
  def call(conn, options) do
    super(conn, options)
  rescue
    error in PowRedisCache.Error -> try_again_later(conn, error, __STACKTRACE__)
    error in WrapperError -> unwrap(conn, error, __STACKTRACE__)
  end

  defp unwrap(conn, %WrapperError{reason: %PowRedisCache.Error{} = error, stack: stack}, _stack),
    do: try_again_later(conn, error, stack)

  defp unwrap(_conn, error, stack), do: reraise(error, stack)

  defp try_again_later(conn, error, stack) do
    conn
    |> put_resp_header("retry-after", "10")
    |> WrapperError.reraise(:error, error, stack)
  end

  # A session that begins has this in its metadata.
  defp put_device(conn, _options) do
    [user_agent | _] = get_req_header(conn, "user-agent") ++ ["unknown"]
    ip = conn.remote_ip |> :inet.ntoa() |> to_string()
    metadata = [ip: ip, user_agent: String.slice(user_agent, 0, 200)]
    put_private(conn, :pow_session_metadata, metadata)
  end
end
