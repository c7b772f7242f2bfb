if match?({:module, _}, Code.ensure_compiled(Pow.Plug.Session)) do
  defmodule PowRedisCache.PowDevice do
    @moduledoc """
    A device of a user of an app with Pow: its cookies, and requests through Pow's plugs in this process.
    """

    import Plug.Conn

    alias PowPersistentSession.Plug.Cookie
    alias PowRedisCache.Plug.TrackSession

    defmodule User do
      @moduledoc "A user as Pow's plugs and stores see one."
      defstruct [:id, :email]
    end

    @secret String.duplicate("secret key base ", 4)
    @session Plug.Session.init(store: :cookie, key: "_app", signing_salt: "salt")

    defmodule Users do
      @moduledoc "The users of the app: all ids but 404 exist."

      def get_by(id: 404), do: nil
      def get_by(id: id), do: %User{id: id, email: "user#{id}@example.com"}
    end

    defstruct [:config, :cookie_options, cookies: %{}]

    @doc """
    A new device, without cookies. The options override Pow's configuration, and the cookie's those of the
    plug of persistent sessions.
    """
    def new(options, cookie_options \\ []) do
      defaults = [
        user: User,
        users_context: Users,
        cache_store_backend: PowRedisCache,
        extensions: [PowPersistentSession],
        persistent_session_store: {PowRedisCache.PersistentSessionStore, []}
      ]

      {:ok, _started} = ensure_started()
      %__MODULE__{config: Keyword.merge(defaults, options), cookie_options: cookie_options}
    end

    @doc "Logs a user in. With `keep: true`, with a persistent session."
    def log_in(device, user, options \\ []) do
      {_conn, device} =
        request(device, fn conn ->
          conn = Pow.Plug.create(conn, user)
          if options[:keep], do: Cookie.create(conn, user, token_config(conn)), else: conn
        end)

      device
    end

    @doc "Logs the user out as Pow's controllers do."
    def log_out(device) do
      {_conn, device} =
        request(device, fn conn ->
          conn |> Pow.Plug.delete() |> Cookie.delete(token_config(conn))
        end)

      device
    end

    @doc "The user that a request of the device gets, and the device with the cookies of the response."
    def visit(device) do
      {conn, device} = request(device, & &1)
      {Pow.Plug.current_user(conn), device}
    end

    @doc "Calls the plugs, and then the function as the app's controller."
    def request(device, controller) do
      conn = device |> passed() |> controller.() |> send_resp(200, "")
      {conn, %{device | cookies: Enum.reduce(conn.resp_cookies, device.cookies, &keep/2)}}
    end

    @doc "A conn of a request that has passed through the plugs, and is not answered."
    def passed(device) do
      device
      |> conn()
      |> Plug.Session.call(@session)
      |> Pow.Plug.Session.call(Pow.Plug.Session.init(device.config))
      |> Cookie.call(Cookie.init(device.cookie_options))
      |> TrackSession.call(TrackSession.init([]))
    end

    @doc "The secret with which the app signs."
    def secret_key_base, do: @secret

    @doc "What Plug's session of the device holds."
    def plug_session(device) do
      conn = device |> conn() |> Plug.Session.call(@session) |> fetch_session()
      conn.private.plug_session
    end

    @doc "The device after its session has expired: only the persistent session is left."
    def without_session(device), do: %{device | cookies: Map.delete(device.cookies, "_app")}

    defp token_config(conn), do: elem(conn.private.pow_persistent_session, 1)

    defp conn(device) do
      conn = %{Plug.Test.conn(:get, "/") | secret_key_base: @secret}

      Enum.reduce(device.cookies, conn, fn {name, value}, conn ->
        Plug.Test.put_req_cookie(conn, name, value)
      end)
    end

    defp keep({name, %{max_age: 0}}, cookies), do: Map.delete(cookies, name)
    defp keep({name, %{value: value}}, cookies), do: Map.put(cookies, name, value)

    # Plug needs its application. Its stand-in has none.
    defp ensure_started do
      case Application.ensure_all_started(:plug) do
        {:ok, started} -> {:ok, started}
        {:error, _not_available} -> {:ok, []}
      end
    end
  end
end
