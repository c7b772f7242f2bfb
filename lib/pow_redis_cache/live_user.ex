if match?({:module, _}, Code.ensure_compiled(Pow.Plug.Base)) do
  defmodule PowRedisCache.LiveUser do
    @moduledoc """
    Assigns the user of Pow's session to LiveViews.

        live_session :logged_in, on_mount: {PowRedisCache.LiveUser, otp_app: :my_app} do
          live "/counter", CounterLive
        end

    The user is assigned as `:current_user`, or under Pow's `:current_user_assigns_key`. Without a user, the
    LiveView redirects. Options are Pow's configuration, such as `otp_app: :my_app`, which stands for that of
    the app, and

      * `:redirect_to` - the path to redirect to. Defaults to `"/"`.

    A LiveView renews no session and uses no token. With `PowRedisCache.Plug.RenewalGrace`, it gets the user
    of a session that another tab has renewed since the page was rendered.
    """

    # Called only if the app includes LiveView.
    @compile {:no_warn_undefined, [Phoenix.Component, Phoenix.LiveView]}

    alias Pow.Config
    alias PowRedisCache.{ClientStore, Renewals}

    @doc "The hook of `Phoenix.LiveView.on_mount/1`."
    @spec on_mount(keyword(), map(), map(), socket) :: {:cont, socket} | {:halt, socket}
          when socket: struct()
    def on_mount(options, _params, session, socket) do
      {path, config} = Keyword.pop(options, :redirect_to, "/")
      key = Config.get(config, :current_user_assigns_key, :current_user)

      # When the page is rendered, Pow's plug has assigned the user.
      socket =
        Phoenix.Component.assign_new(socket, key, fn -> user(session, socket.endpoint, config) end)

      if socket.assigns[key],
        do: {:cont, socket},
        else: {:halt, Phoenix.LiveView.redirect(socket, to: path)}
    end

    defp user(session, endpoint, config) do
      with id when is_binary(id) <- session_id(session, endpoint, config),
           {user, _metadata} <- fetch(id, config) do
        user
      else
        _none -> nil
      end
    end

    defp session_id(session, endpoint, config) do
      ClientStore.session_id(session, endpoint.config(:secret_key_base), config)
    end

    defp fetch(id, config) do
      {store, store_config} = Pow.Plug.Base.store(config)

      with :not_found <- store.get(store_config, id),
           {_id, _token, value} <- Renewals.successor(config, [id]),
           do: value
    end
  end
end
