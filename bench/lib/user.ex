defmodule PowRedisCache.Bench.App.User do
  @moduledoc "The user struct of an app, which Pow stores."

  defstruct [
    :id,
    :email,
    :inserted_at,
    :updated_at,
    password_hash: "$pbkdf2-sha512$100000$" <> String.duplicate("h", 100)
  ]
end
