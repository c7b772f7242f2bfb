defmodule PowRedisCache.Sessions.Session do
  @moduledoc """
  A session of a user: a device that is logged in.

    * `:id` - the id under which Pow stores it. Pow changes it when it renews the session.
    * `:fingerprint` - stays the same when the session is renewed. Identifies the session on pages and in
      forms.
    * `:began_at` - when the user logged in, if the app puts `:first_seen_at` into the metadata.
    * `:renewed_at` - when Pow renewed it last.
    * `:metadata` - what the app has put into `conn.private[:pow_session_metadata]`.
    * `:current?` - whether it is the session of the `:conn` that was given.
    * `:persistent?` - whether a persistent session belongs to it ("Keep me logged in").
  """

  defstruct [:id, :fingerprint, :began_at, :renewed_at, :metadata, :current?, :persistent?]

  @type t :: %__MODULE__{
          id: binary(),
          fingerprint: binary() | nil,
          began_at: DateTime.t() | nil,
          renewed_at: DateTime.t(),
          metadata: keyword(),
          current?: boolean(),
          persistent?: boolean()
        }
end
