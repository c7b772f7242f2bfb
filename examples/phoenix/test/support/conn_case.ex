defmodule MyAppWeb.ConnCase do
  @moduledoc "Tests with a database connection of their own, and devices that are logged in."
  use ExUnit.CaseTemplate

  alias Ecto.Adapters.SQL.Sandbox

  using do
    quote do
      import MyAppWeb.Logins
      import Phoenix.ConnTest
      import Plug.Conn

      @endpoint MyAppWeb.Endpoint
    end
  end

  setup tags do
    PowRedisCache.Testing.isolate(tags)
    owner = Sandbox.start_owner!(MyApp.Repo, shared: true)
    on_exit(fn -> Sandbox.stop_owner(owner) end)
  end
end
