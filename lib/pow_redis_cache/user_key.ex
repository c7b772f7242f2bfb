if match?({:module, _}, Code.ensure_compiled(Pow.Operations)) do
  defmodule PowRedisCache.UserKey do
    @moduledoc false
    # The parts with which the keys of a user begin, as `Pow.Store.CredentialsCache` makes them.

    @doc "Returns `[struct, :user, id]`. For other primary keys than `id`, the third part is their clauses."
    def parts(%struct{} = user, store_config) do
      case Pow.Operations.fetch_primary_key_values(user, store_config[:pow_config]) do
        {:ok, [id: id]} -> [struct, :user, id]
        {:ok, clauses} -> [struct, :user, Enum.sort(clauses)]
        {:error, error} -> raise error
      end
    end

    @doc "Whether a value read from Redis is the user."
    def same?(%struct{} = value, %struct{} = user, store_config),
      do: parts(value, store_config) == parts(user, store_config)

    def same?(_value, _user, _store_config), do: false
  end
end
