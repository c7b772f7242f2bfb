defmodule PowRedisCache.MnesiaStub do
  @moduledoc """
  A stub of Pow's `MnesiaCache`. A function under `:after_get` in the process dictionary is called once
  by `get/2`, after it has read: it simulates a concurrent write.
  """

  @doc "Creates the store, which ends with the calling process."
  def new, do: :ets.new(__MODULE__, [:named_table, :public, :ordered_set])

  def put(config, records) do
    for {key, value} <- List.wrap(records),
        do: :ets.insert(__MODULE__, {key(config, key), value})

    :ok
  end

  def delete(config, key) do
    :ets.delete(__MODULE__, key(config, key))
    :ok
  end

  def get(config, key) do
    found = :ets.lookup(__MODULE__, key(config, key))
    if meanwhile = Process.delete(:after_get), do: meanwhile.()

    case found do
      [{_key, value}] -> value
      [] -> :not_found
    end
  end

  def all(config, match) do
    for {[_namespace | key], value} <-
          :ets.select(__MODULE__, [{{key(config, match), :_}, [], [:"$_"]}]),
        do: {if(match?([_], key), do: hd(key), else: key), value}
  end

  defp key(config, key), do: [config[:namespace] | List.wrap(key)]
end
