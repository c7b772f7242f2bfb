defmodule MyAppWeb.ConnCase do
  @moduledoc "Tests of pages. Each has a database connection and records in Redis of its own."
  use ExUnit.CaseTemplate

  alias Ecto.Adapters.SQL.Sandbox

  using do
    quote do
      import Phoenix.ConnTest
      import Plug.Conn

      @endpoint MyAppWeb.Endpoint
    end
  end

  setup tags do
    PowRedisCache.Testing.isolate(tags)
    owner = Sandbox.start_owner!(MyApp.Repo, shared: not tags[:async])
    on_exit(fn -> Sandbox.stop_owner(owner) end)
  end
end
