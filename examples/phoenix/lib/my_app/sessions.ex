defmodule MyApp.Sessions do
  @moduledoc "The sessions of a user, on all devices."

  @config [otp_app: :my_app]

  @doc "Logs a user out on every device."
  def log_out_everywhere(user) do
    # Tokens first: a device that has one gets a new session for it.
    delete_tokens(user)
    delete_sessions(user)
  end

  defp delete_tokens(%schema{id: id}) do
    {store, config} = PowPersistentSession.Plug.Base.store(@config)

    for {token, {%^schema{id: ^id}, _metadata}} <- store.all(config, [:_]),
        do: store.delete(config, token)

    :ok
  end

  defp delete_sessions(user) do
    {store, config} = Pow.Plug.Base.store(@config)
    for session <- store.sessions(config, user), do: store.delete(config, session)
    :ok
  end
end
