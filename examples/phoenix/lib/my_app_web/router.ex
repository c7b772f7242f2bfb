defmodule MyAppWeb.Router do
  use Phoenix.Router
  use Pow.Phoenix.Router
  use Pow.Extension.Phoenix.Router, extensions: [PowPersistentSession, PowResetPassword]

  import Phoenix.Controller
  import Plug.Conn

  pipeline :browser do
    plug :accepts, ["html"]
    plug :fetch_session
    plug :fetch_flash
    plug :put_root_layout, html: {MyAppWeb.Layouts, :root}
    plug :protect_from_forgery
    plug :put_secure_browser_headers
  end

  pipeline :logged_in do
    plug Pow.Plug.RequireAuthenticated, error_handler: Pow.Phoenix.PlugErrorHandler
  end

  scope "/" do
    pipe_through :browser
    pow_routes()
    pow_extension_routes()
  end

  scope "/", MyAppWeb do
    pipe_through :browser
    get "/", PageController, :show
  end

  scope "/", MyAppWeb do
    pipe_through [:browser, :logged_in]
    delete "/sessions", PageController, :log_out_everywhere
  end
end
