defmodule MyAppWeb.Router do
  use Phoenix.Router
  use Pow.Phoenix.Router
  use Pow.Extension.Phoenix.Router, extensions: [PowPersistentSession, PowResetPassword]

  import Phoenix.Controller
  import Phoenix.LiveDashboard.Router
  import Phoenix.LiveView.Router
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
    get "/devices", DeviceController, :index
    delete "/devices", DeviceController, :log_out_everywhere
    delete "/devices/others", DeviceController, :log_out_others
    delete "/devices/:fingerprint", DeviceController, :log_out

    live_session :logged_in, on_mount: {PowRedisCache.LiveUser, otp_app: :my_app} do
      live "/counter", CounterLive
    end
  end

  # In production, only for those who may see it.
  if Application.compile_env(:my_app, :dashboard) do
    scope "/" do
      pipe_through :browser
      live_dashboard "/dashboard", metrics: MyAppWeb.Telemetry
    end
  end
end
