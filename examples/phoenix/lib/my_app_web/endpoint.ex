defmodule MyAppWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :my_app

  plug Plug.Parsers, parsers: [:urlencoded]
  plug Plug.MethodOverride
  plug Plug.Head
  plug Plug.Session, store: :cookie, key: "_my_app", signing_salt: "pow", same_site: "Lax"
  plug Pow.Plug.Session, otp_app: :my_app
  plug PowPersistentSession.Plug.Cookie
  plug MyAppWeb.Router
end
