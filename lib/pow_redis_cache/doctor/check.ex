defmodule PowRedisCache.Doctor.Check do
  @moduledoc """
  One line of the report of `PowRedisCache.Doctor`.

    * `:name` - what was looked at.
    * `:status` - `:ok`; `:warning` where it works, and something should be done; `:error` where it does
      not work; `:skipped` where it could not be looked at.
    * `:detail` - what was found.
    * `:advice` - what to do, or `nil`.
  """

  @enforce_keys [:name, :status, :detail]
  defstruct [:name, :status, :detail, :advice]

  @type t :: %__MODULE__{
          name: String.t(),
          status: :ok | :warning | :error | :skipped,
          detail: String.t(),
          advice: String.t() | nil
        }
end
