defmodule MyAppWeb.Readiness do
  @moduledoc "Responds to `/ready` with 200 if Redis can be reached, and otherwise with 503."
  @behaviour Plug

  import Plug.Conn

  @impl true
  def init(options), do: options

  @impl true
  def call(%{request_path: "/ready"} = conn, _options) do
    case PowRedisCache.ping() do
      :ok -> conn |> send_resp(200, "ready") |> halt()
      {:error, _error} -> conn |> send_resp(503, "Redis cannot be reached") |> halt()
    end
  end

  def call(conn, _options), do: conn
end
