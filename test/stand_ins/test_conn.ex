defmodule Plug.Test do
  @moduledoc "Stands in for Plug's connections of tests where Plug is not available."

  @doc "A connection that sends nowhere."
  def conn(method, path) do
    %Plug.Conn{
      adapter: {__MODULE__, nil},
      method: method |> to_string() |> String.upcase(),
      path_info: String.split(path, "/", trim: true),
      request_path: path
    }
  end

  def put_req_cookie(conn, name, value) do
    %{conn | req_headers: [{"cookie", "#{name}=#{value}"} | conn.req_headers]}
  end

  def send_resp(payload, _status, _headers, body), do: {:ok, body, payload}
end
