defmodule MyAppWeb.LiveUser do
  @moduledoc "Assigns the user of the session to a LiveView, or leaves the page if there is none."

  import Phoenix.Component
  import Phoenix.LiveView

  @config [otp_app: :my_app]
  @salt Atom.to_string(Pow.Plug.Session)

  def on_mount(:default, _params, session, socket) do
    # The first time, Pow's plug has assigned the user.
    socket = assign_new(socket, :current_user, fn -> user(session, socket.endpoint) end)

    if socket.assigns.current_user,
      do: {:cont, socket},
      else: {:halt, redirect(socket, to: "/")}
  end

  defp user(session, endpoint) do
    conn = %Plug.Conn{secret_key_base: endpoint.config(:secret_key_base)}
    {store, store_config} = Pow.Plug.Base.store(@config)

    with signed when is_binary(signed) <- session["my_app_auth"],
         {:ok, id} <- Pow.Plug.verify_token(conn, @salt, signed, @config),
         {user, _metadata} <- store.get(store_config, id) do
      user
    else
      _ -> nil
    end
  end
end
