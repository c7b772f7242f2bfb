defmodule Plain.Sessions do
  @moduledoc "Makes the calls of `Pow.Store.CredentialsCache` without Pow."

  @config [namespace: "credentials", ttl: :timer.minutes(30)]

  @doc "Writes three records: the session, the user, and the session of the user."
  def sign_in(%{id: id} = user, session) do
    PowRedisCache.put(@config, [
      {session, {key(id), []}},
      {key(id), user},
      {key(id) ++ [:session, session], System.os_time(:millisecond)}
    ])
  end

  @doc "Returns the user of a session, or `:not_found`."
  def user(session) do
    with {key, _metadata} <- PowRedisCache.get(@config, session),
         do: PowRedisCache.get(@config, key)
  end

  @doc "Returns the sessions of a user."
  def list(id) do
    for {key, _signed_in_at} <- PowRedisCache.all(@config, key(id) ++ [:session, :_]),
        do: List.last(key)
  end

  @doc "Deletes a session. The record of the user expires later."
  def sign_out(session) do
    with {key, _metadata} <- PowRedisCache.get(@config, session) do
      PowRedisCache.delete(@config, session)
      PowRedisCache.delete(@config, key ++ [:session, session])
    end
  end

  @doc "Signs a user out on every device."
  def sign_out_everywhere(id), do: id |> list() |> Enum.each(&sign_out/1)

  defp key(id), do: [Plain.User, :user, id]
end
