if match?({:module, _}, Code.ensure_compiled(Pow.Plug)) do
  defmodule PowRedisCache.ClientStore do
    @moduledoc false
    # What a browser keeps for Pow's plugs: the id of a session in Plug's session, and a token in a cookie.
    # Both are signed.

    alias Plug.Conn
    alias Pow.Config

    defstruct [:session_id, :token]

    @session_salt "Elixir.Pow.Plug.Session"
    @token_salt "Elixir.PowPersistentSession.Plug.Cookie"

    @doc """
    Reads the ids of a conn whose session and cookies are fetched. `nil` is one that is missing or forged.
    """
    def read(conn, config) do
      token = if persistent_sessions?(config), do: conn.cookies[cookie_key(config)]

      %__MODULE__{
        session_id: read_session_id(conn, config),
        token: verify(conn, @token_salt, token, config)
      }
    end

    @doc "Reads the id of a session from Plug's session, outside a request."
    def session_id(session, secret_key_base, config) do
      %Conn{secret_key_base: secret_key_base}
      |> Conn.put_private(:plug_session, session)
      |> read_session_id(config)
    end

    @doc "Removes both."
    def delete(conn, config) do
      conn = Conn.delete_session(conn, session_key(config))

      if persistent_sessions?(config),
        do: Conn.delete_resp_cookie(conn, cookie_key(config), cookie_options(config)),
        else: conn
    end

    @doc "Returns those that are there."
    def ids(%__MODULE__{session_id: session_id, token: token}),
      do: Enum.reject([session_id, token], &is_nil/1)

    defp read_session_id(conn, config) do
      verify(conn, @session_salt, Conn.get_session(conn, session_key(config)), config)
    end

    # The cookie alone does not tell whether the app still uses the extension.
    defp persistent_sessions?(config),
      do: PowPersistentSession in Config.get(config, :extensions, [])

    defp verify(conn, salt, signed, config) when is_binary(signed) do
      case Pow.Plug.verify_token(conn, salt, signed, config) do
        {:ok, id} -> id
        :error -> nil
      end
    end

    defp verify(_conn, _salt, _missing, _config), do: nil

    defp session_key(config),
      do: Config.get(config, :session_key, Pow.Plug.prepend_with_namespace(config, "auth"))

    defp cookie_key(config) do
      default = Pow.Plug.prepend_with_namespace(config, "persistent_session")
      Config.get(config, :persistent_session_cookie_key, default)
    end

    defp cookie_options(config) do
      config |> Config.get(:persistent_session_cookie_opts, []) |> Keyword.put_new(:path, "/")
    end
  end
end
