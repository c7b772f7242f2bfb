defmodule Plug.Session do
  @moduledoc "Stands in for Plug's session in a signed cookie where Plug is not available."

  import Plug.Conn

  def init(options), do: Keyword.fetch!(options, :key)

  def call(conn, key), do: put_private(conn, :plug_session_fetch, &fetch(&1, key))

  defp fetch(conn, key) do
    conn
    |> put_private(:plug_session, decode(conn, conn.cookies[key]))
    |> put_private(:plug_session_fetch, :done)
    |> register_before_send(fn conn ->
      case conn.private[:plug_session_info] do
        info when info in [nil, :ignore] -> conn
        :drop -> delete_resp_cookie(conn, key)
        _written -> put_resp_cookie(conn, key, encode(conn, conn.private.plug_session))
      end
    end)
  end

  defp encode(conn, session) do
    payload = :erlang.term_to_binary(session)
    Base.url_encode64(signature(conn, payload) <> payload, padding: false)
  end

  defp decode(_conn, nil), do: %{}

  defp decode(conn, cookie) do
    with {:ok, <<signature::binary-32, payload::binary>>} <-
           Base.url_decode64(cookie, padding: false),
         true <- signature == signature(conn, payload) do
      :erlang.binary_to_term(payload)
    else
      _tampered -> %{}
    end
  end

  defp signature(conn, payload), do: :crypto.mac(:hmac, :sha256, conn.secret_key_base, payload)
end
