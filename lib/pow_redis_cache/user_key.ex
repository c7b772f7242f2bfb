if Code.ensure_loaded?(Pow.Operations) do
  defmodule PowRedisCache.UserKey do
    @moduledoc false
    # The parts with which the keys of a user begin, as `Pow.Store.CredentialsCache` makes them.

    @doc "Returns `[struct, :user, id]`. Of other primary keys than `id`, the third part is their clauses."
    def parts(%struct{} = user, store_config) do
      case Pow.Operations.fetch_primary_key_values(user, store_config[:pow_config]) do
        {:ok, [id: id]} -> [struct, :user, id]
        {:ok, clauses} -> [struct, :user, Enum.sort_by(clauses, &elem(&1, 0))]
        {:error, error} -> raise error
      end
    end
  end
end
