defmodule PowRedisCache.Bench.Dataset do
  @moduledoc """
  The records of an app with signed-in users. Each user has three sessions, and Pow writes three records
  for each of them. One of these, that of the user, is shared by the sessions.
  """

  alias PowRedisCache.Bench.App.User

  @sessions 3
  @filling String.duplicate("s", 36)
  # The record of the user, and two of each session.
  @records_per_user 1 + 2 * @sessions

  @doc "The number of users whose records make up about `keys` keys."
  def users(keys), do: div(keys, @records_per_user)

  @doc "A stream of the records of `users` users with `sessions` sessions each."
  def stream(users, sessions) do
    Stream.flat_map(1..users//1, fn user ->
      Enum.uniq(
        for number <- 1..sessions, record <- sign_in(user, session(user, number)), do: record
      )
    end)
  end

  @doc "The records that a sign-in of a user writes."
  def sign_in(user, session) do
    [
      {session, {user_key(user), fingerprint: "fingerprint-#{session}"}},
      {user_key(user), %User{id: user, email: "user#{user}@example.com"}},
      {session_key(user, session), 1_700_000_000_000 + user}
    ]
  end

  def user_key(user), do: [User, :user, user]
  def session_key(user, session), do: user_key(user) ++ [:session, session]

  @doc "A session identifier, as long as Pow's."
  def session(user, number) do
    # Part of each measured call, so it avoids protocols and patterns.
    text = <<Integer.to_string(user)::binary, ?-, Integer.to_string(number)::binary, ?->>
    <<text::binary, binary_part(@filling, 0, 36 - byte_size(text))::binary>>
  end

  def sessions(user), do: for(number <- 1..@sessions, do: session(user, number))

  @doc "Whether these are exactly the records of the user's sessions."
  def sessions?(records, user) do
    Enum.sort(for {key, _value} <- records, do: key) ==
      Enum.sort(for session <- sessions(user), do: session_key(user, session))
  end
end
