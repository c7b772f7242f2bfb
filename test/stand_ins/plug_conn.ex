defmodule Plug.Conn do
  @moduledoc """
  Stands in for Plug's connection where Plug is not available: what the plugs under test use of it, with the
  behaviour that Plug documents.
  """

  defstruct adapter: {nil, nil},
            assigns: %{},
            cookies: %{},
            halted: false,
            host: "localhost",
            method: "GET",
            path_info: [],
            port: 80,
            private: %{before_send: []},
            query_string: "",
            remote_ip: {127, 0, 0, 1},
            req_headers: [],
            request_path: "/",
            resp_body: nil,
            resp_cookies: %{},
            resp_headers: [],
            scheme: :http,
            secret_key_base: nil,
            state: :unset,
            status: nil

  @type t :: %__MODULE__{}

  def assign(conn, key, value), do: %{conn | assigns: Map.put(conn.assigns, key, value)}

  def put_private(conn, key, value), do: %{conn | private: Map.put(conn.private, key, value)}

  def get_req_header(conn, name), do: for({^name, value} <- conn.req_headers, do: value)

  def put_resp_header(conn, name, value) do
    %{conn | resp_headers: List.keystore(conn.resp_headers, name, 0, {name, value})}
  end

  def put_status(conn, status), do: %{conn | status: status}

  def halt(conn), do: %{conn | halted: true}

  def fetch_cookies(conn) do
    cookies =
      for header <- get_req_header(conn, "cookie"),
          pair <- String.split(header, ~r/; */, trim: true),
          [name, value] <- [String.split(pair, "=", parts: 2)],
          into: %{},
          do: {name, value}

    %{conn | cookies: Map.merge(cookies, conn.cookies)}
  end

  def put_resp_cookie(conn, name, value, options \\ []) do
    cookie = options |> Map.new() |> Map.put(:value, value)
    cookies = Map.put(conn.cookies, name, value)
    %{conn | cookies: cookies, resp_cookies: Map.put(conn.resp_cookies, name, cookie)}
  end

  def delete_resp_cookie(conn, name, options \\ []) do
    cookie =
      options |> Map.new() |> Map.merge(%{max_age: 0, universal_time: {{1970, 1, 1}, {0, 0, 0}}})

    cookies = Map.delete(conn.cookies, name)
    %{conn | cookies: cookies, resp_cookies: Map.put(conn.resp_cookies, name, cookie)}
  end

  @doc "Fetches the session with the function that `Plug.Session` has left."
  def fetch_session(conn, _options \\ []) do
    case conn.private[:plug_session_fetch] do
      :done -> conn
      fetch when is_function(fetch, 1) -> conn |> fetch_cookies() |> fetch.()
      nil -> raise ArgumentError, "cannot fetch session without a configured session plug"
    end
  end

  def get_session(conn, key), do: conn |> session() |> Map.get(to_string(key))

  def put_session(conn, key, value) do
    put_whole_session(conn, Map.put(session(conn), to_string(key), value))
  end

  def delete_session(conn, key) do
    put_whole_session(conn, Map.delete(session(conn), to_string(key)))
  end

  def configure_session(conn, renew: true), do: put_private(conn, :plug_session_info, :renew)
  def configure_session(conn, ignore: true), do: put_private(conn, :plug_session_info, :ignore)
  def configure_session(conn, drop: true), do: put_private(conn, :plug_session_info, :drop)

  def clear_session(conn), do: put_whole_session(conn, %{})

  @doc "The function that is registered last is called first."
  def register_before_send(conn, callback) do
    update_in(conn.private[:before_send], &[callback | &1 || []])
  end

  def send_resp(conn, status, body) do
    conn = %{conn | status: status, resp_body: body, state: :set}
    conn = Enum.reduce(conn.private.before_send, conn, & &1.(&2))
    {adapter, payload} = conn.adapter
    headers = conn.resp_headers ++ set_cookie_headers(conn)
    {:ok, _body, payload} = adapter.send_resp(payload, conn.status, headers, conn.resp_body)
    %{conn | adapter: {adapter, payload}, resp_headers: headers, state: :sent}
  end

  defp put_whole_session(conn, session) do
    info = conn.private[:plug_session_info] || :write
    conn |> put_private(:plug_session, session) |> put_private(:plug_session_info, info)
  end

  defp session(%{private: %{plug_session: session}}), do: session
  defp session(_conn), do: raise(ArgumentError, "session not fetched, call fetch_session/2")

  defp set_cookie_headers(conn) do
    for {name, cookie} <- conn.resp_cookies do
      age = if cookie[:max_age], do: "; max-age=#{cookie.max_age}", else: ""
      {"set-cookie", "#{name}=#{cookie[:value]}; path=#{cookie[:path] || "/"}#{age}; HttpOnly"}
    end
  end
end
