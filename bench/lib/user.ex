defmodule PowRedisCache.Bench.App.User do
  @moduledoc "A user as an app has it: Pow keeps the struct."

  defstruct [
    :id,
    :email,
    :inserted_at,
    :updated_at,
    password_hash: "$pbkdf2-sha512$100000$" <> String.duplicate("h", 100)
  ]
end
