if match?({:module, _}, Code.ensure_compiled(Pow.Plug.Base)) do
  defmodule PowRedisCache.Plug.RenewalGrace do
    @moduledoc """
    A plug that keeps all tabs logged in when Pow renews a session or uses a token.

        plug Plug.Session, @session_options
        plug PowRedisCache.Plug.RenewalGrace, otp_app: :my_app
        plug Pow.Plug.Session, otp_app: :my_app
        plug PowPersistentSession.Plug.Cookie

    It comes after `Plug.Session` and before Pow's plugs, and takes the options of `Pow.Plug.Session`. Options
    of `PowPersistentSession.Plug.Cookie` belong here too, or better into the app's configuration, where all
    plugs find them. It handles tokens if `:extensions` includes `PowPersistentSession`.

      * `:grace` - for how many seconds an old cookie leads to the renewed session: an integer from `0` to
        `60`. Defaults to `10`. `0` switches the plug off.

    Of concurrent requests with the same session or token, on any number of nodes, one renews it. The others
    get the user of the old session while it exists, and for `:grace` seconds after its renewal the user of
    the new one, as long as that exists. They renew nothing, and their responses do not set the cookie of
    Plug's session: what they changed in it, such as a flash, is lost. Logging in and out works as usual, and
    a logout with an old cookie ends the new session.

    Raises `ArgumentError` when it is initialized with invalid options, and `PowRedisCache.Error` in a request
    if Redis cannot be reached. See [Several tabs](several_tabs.md).
    """

    @behaviour Plug

    alias Plug.Conn
    alias Pow.Config
    alias PowPersistentSession.Plug.Base, as: PersistentSession
    alias PowRedisCache.{ClientStore, Renewals}

    @default_grace 10
    @max_grace 60
    # That of Pow.
    @session_ttl_renewal :timer.minutes(15)

    @impl true
    def init(options) do
      {grace, config} = Keyword.pop(options, :grace, @default_grace)

      unless is_integer(grace) and grace in 0..@max_grace do
        raise ArgumentError,
              "expected :grace to be an integer from 0 to #{@max_grace} (seconds), " <>
                "got: #{inspect(grace)}"
      end

      {:timer.seconds(grace), config}
    end

    @impl true
    def call(conn, {0, _config}), do: conn

    def call(conn, {grace, config}) do
      if Pow.Plug.current_user(conn, config) do
        conn
      else
        conn = conn |> Conn.fetch_session() |> Conn.fetch_cookies()
        client = ClientStore.read(conn, config)

        case find(client, config) do
          :none ->
            conn

          {:claimed, id, user} ->
            Conn.register_before_send(conn, &renewed(&1, {id, user}, client, config, grace))

          {role, user, metadata} ->
            assign(conn, role, user, metadata, client, config)
        end
      end
    end

    # Who makes the request:
    #
    #   {:current, user, metadata}   the session is not due, or the user has just logged out elsewhere
    #   {:claimed, id, user}         Pow renews the session or uses the token, in this request
    #   {:other, user, metadata}     another request renews or has renewed it
    #   :none                        nobody, or Pow decides
    defp find(%ClientStore{session_id: nil, token: nil}, _config), do: :none
    defp find(%ClientStore{session_id: nil, token: token}, config), do: find_token(token, config)

    defp find(%ClientStore{session_id: session_id, token: token}, config) do
      {store, store_config} = Pow.Plug.Base.store(config)

      case store.get(store_config, session_id) do
        {user, metadata} when is_list(metadata) ->
          if due?(metadata, config),
            do: claim(session_id, user, metadata, config),
            else: {:current, user, metadata}

        :not_found ->
          with :none <- find_successor(session_id, config), do: find_token(token, config)

        _unknown_user ->
          :none
      end
    end

    defp find_token(nil, _config), do: :none

    defp find_token(token, config) do
      {store, store_config} = PersistentSession.store(config)

      case store.get(store_config, token) do
        {user, metadata} -> claim(token, user, metadata[:session_metadata] || [], config)
        :not_found -> find_successor(token, config)
        _unknown_user -> :none
      end
    end

    defp claim(id, user, metadata, config) do
      cond do
        not Renewals.claim(config, id) ->
          {:other, user, metadata}

        Renewals.ended?(config, user, metadata[:fingerprint]) ->
          Renewals.release(config, id)
          {:current, user, metadata}

        true ->
          {:claimed, id, user}
      end
    end

    defp find_successor(id, config) do
      case Renewals.successor(config, [id], true) do
        {_session_id, _token, {user, metadata}} -> {:other, user, metadata}
        nil -> :none
      end
    end

    defp due?(metadata, config) do
      case Config.get(config, :session_ttl_renewal, @session_ttl_renewal) do
        nil -> false
        age -> metadata[:inserted_at] + age < System.os_time(:millisecond)
      end
    end

    # As Pow's plug would, which then reads nothing.
    defp assign(conn, role, user, metadata, client, config) do
      conn
      |> Conn.put_private(:pow_session_metadata, metadata)
      |> Pow.Plug.assign_current_user(user, config)
      |> Conn.register_before_send(&kept(&1, {role, user}, client, config))
    end

    # Callbacks that are registered first are called last: Pow has written and deleted, and Plug.Session has
    # not yet set its cookie.
    defp renewed(conn, {id, user}, client, config, grace) do
      now = ClientStore.read(conn, config)

      if now.session_id in [nil, client.session_id] do
        Renewals.release(config, id)
        if logged_out?(client, now), do: log_out(conn, user, client, config), else: conn
      else
        replaced = ClientStore.ids(client) -- ClientStore.ids(now)
        Renewals.renewed(config, replaced, now, grace)

        if Renewals.ended?(config, user, fingerprint(conn)),
          do: take_back(conn, now, config),
          else: conn
      end
    end

    # The device was logged out meanwhile.
    defp take_back(conn, now, config) do
      Renewals.delete(config, now.session_id, now.token)
      ClientStore.delete(conn, config)
    end

    defp kept(conn, {role, user}, client, config) do
      now = ClientStore.read(conn, config)

      cond do
        logged_out?(client, now) -> log_out(conn, user, client, config)
        now != client -> replace_successor(conn, client, now, config)
        role == :other -> ignore_session(conn)
        true -> conn
      end
    end

    # The cookie would have the old id, and may reach the browser after that of the new session.
    defp ignore_session(%{private: %{plug_session_info: :drop}} = conn), do: conn
    defp ignore_session(conn), do: Conn.configure_session(conn, ignore: true)

    defp logged_out?(%ClientStore{session_id: nil} = client, now),
      do: client.token != nil and now.token == nil

    defp logged_out?(_client, now), do: now.session_id == nil

    defp log_out(conn, user, client, config) do
      Renewals.end_device(config, user, fingerprint(conn))

      with {session_id, token, _value} <- Renewals.successor(config, ClientStore.ids(client)),
           do: Renewals.delete(config, session_id, token)

      conn
    end

    # The app has created a session, and Pow has deleted the old one: the successor has to go as well.
    defp replace_successor(conn, client, now, config) do
      with {session_id, token, _value} <- Renewals.successor(config, ClientStore.ids(client)) do
        if session_id != now.session_id, do: Renewals.delete(config, session_id, nil)
        if client.token != now.token, do: Renewals.delete(config, nil, token)
      end

      conn
    end

    defp fingerprint(conn), do: conn.private[:pow_session_metadata][:fingerprint]
  end
end
