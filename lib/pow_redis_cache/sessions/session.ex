defmodule PowRedisCache.Sessions.Session do
  @moduledoc """
  A session of a user: a device that is logged in.

    * `:id` - the id under which Pow stores it. Pow changes it when it renews the session. It is a secret:
      use `:fingerprint` in pages and forms.
    * `:fingerprint` - stays the same when the session is renewed.
    * `:began_at` - when the user logged in, if `PowRedisCache.Plug.TrackSession` is in use, or else `nil`.
    * `:renewed_at` - when Pow renewed it last.
    * `:metadata` - what the app has put into `conn.private[:pow_session_metadata]`, a keyword list.
    * `:current?` - whether it is the session of the conn.
    * `:persistent?` - whether a persistent session belongs to it ("Keep me logged in").
  """

  # An id in a log would log in nobody, since cookies are signed, but it identifies the session.
  @derive {Inspect, except: [:id, :metadata]}
  defstruct [:id, :fingerprint, :began_at, :renewed_at, :metadata, :current?, :persistent?]

  @type t :: %__MODULE__{
          id: binary(),
          fingerprint: binary() | nil,
          began_at: DateTime.t() | nil,
          renewed_at: DateTime.t() | nil,
          metadata: keyword(),
          current?: boolean(),
          persistent?: boolean()
        }

  @own [:fingerprint, :began_at, :inserted_at]

  @doc false
  def new(id, metadata, current, persistent) do
    fingerprint = metadata[:fingerprint]

    %__MODULE__{
      id: id,
      fingerprint: fingerprint,
      began_at: time(metadata[:began_at]),
      renewed_at: time(metadata[:inserted_at]),
      metadata: Keyword.drop(metadata, @own),
      current?: fingerprint != nil and fingerprint == current,
      persistent?: fingerprint != nil and fingerprint in persistent
    }
  end

  defp time(milliseconds) when is_integer(milliseconds),
    do: DateTime.from_unix!(milliseconds, :millisecond)

  defp time(_missing), do: nil
end
