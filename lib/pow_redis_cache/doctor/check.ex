defmodule PowRedisCache.Doctor.Check do
  @moduledoc """
  A check in the report of `PowRedisCache.Doctor`.

    * `:name` - the name of the check, for example `"TLS"`.
    * `:status` - `:ok`; `:warning` if it works but needs attention; `:error` if it does not work;
      `:skipped` if it could not be checked.
    * `:detail` - the result.
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
