defmodule PowRedisCache.Bench.Visit do
  @moduledoc """
  A user's visit, as the calls that Pow makes to a client. Each caller and number is another user, with one
  session. The calls check their results.
  """

  alias PowRedisCache.Bench.Dataset

  @doc "Puts Pow's three records."
  def sign_in(client, caller, number) do
    user = user(caller, number)
    :ok = client.put.(Dataset.sign_in(user, Dataset.session(user, number)))
  end

  @doc "Gets the session and the user."
  def view_page(client, caller, number) do
    user = user(caller, number)
    {user_key, _metadata} = client.get.(Dataset.session(user, number))
    %{id: ^user} = client.get.(user_key)
  end

  @doc "Lists the user's sessions, as an app does to sign the user out everywhere."
  def list_sessions(client, caller, number) do
    user = user(caller, number)
    key = Dataset.session_key(user, Dataset.session(user, number))
    [{^key, _signed_in_at}] = client.all.(Dataset.user_key(user) ++ [:session, :_])
  end

  @doc "Gets the session and deletes its two records. That of the user stays until it expires."
  def sign_out(client, caller, number) do
    user = user(caller, number)
    session = Dataset.session(user, number)
    {[_struct, :user, ^user], _metadata} = client.get.(session)
    :ok = client.delete.(session)
    :ok = client.delete.(Dataset.session_key(user, session))
  end

  defp user(caller, number), do: caller * 1_000_000 + number
end
