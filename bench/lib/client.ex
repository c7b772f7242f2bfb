defmodule PowRedisCache.Bench.Client do
  @moduledoc """
  The clients under test, with the calls of a Pow backend as functions.

  Pow's example backend is `PowRedisCache.PowGuideStore`, v1 and v2, on eredis and on Redix, each with one
  connection as in Pow's documentation. It writes atoms as Erlang/OTP 26 does, so that all clients read
  the same data.
  """

  alias PowRedisCache.{PowGuideStore, SealKeys}
  alias PowRedisCache.Bench.{Eredis, Redix}

  @enforce_keys [:name, :put, :get, :delete, :all, :stop]
  defstruct @enforce_keys

  @namespace "credentials"
  @ttl :timer.minutes(30)
  # A scan of a million keys may take longer than the default.
  @timeout :timer.minutes(1)
  @every_prefix "pow_redis_cache, index: true"
  # This package, by the names of the clients with each index.
  @indexes %{
    "pow_redis_cache" => :sessions,
    @every_prefix => true,
    "pow_redis_cache, index: false" => false
  }

  @plain "pow_redis_cache"
  @sealed "pow_redis_cache, sealed"

  @doc "The names of all available clients."
  def names do
    drivers = Enum.filter([Redix, Eredis], & &1.available?())

    [@plain] ++
      for(driver <- drivers, version <- [2, 1], do: backend_name(version, driver)) ++
      ["ets"]
  end

  @doc "The names of this package's clients with each index. Only that with the default is in `names/0`."
  def indexed_names, do: Map.keys(@indexes)

  @doc "The name of this package's client with an index of every prefix, as Pow's backend v2 has."
  def every_prefix, do: @every_prefix

  @doc "The name of this package's client with `:seal`."
  def sealed, do: @sealed

  @doc "The names of all clients but this package's."
  def others, do: names() -- [@plain]

  @doc "Starts the clients with these names on a database of a Redis server. `records` are preloaded into ETS."
  def start(names, port, database, records) do
    for name <- names, do: start_one(name, port, database, records)
  end

  @doc "Stops the clients."
  def stop(clients), do: Enum.each(clients, & &1.stop.())

  @doc "Starts this package's client with a name of `indexed_names/0`, connected as `options` say."
  def start_ours(name, options) do
    instance = :"bench_#{System.unique_integer([:positive])}"
    options = [name: instance, index: Map.fetch!(@indexes, name), timeout: @timeout] ++ options
    {:ok, pid} = PowRedisCache.start_link(options)
    calling(name, pid, name: instance, namespace: @namespace, ttl: @ttl)
  end

  @doc "A client with a name that calls an instance with a configuration."
  def calling(name, pid, config) do
    %__MODULE__{
      name: name,
      put: &PowRedisCache.put(config, &1),
      get: &PowRedisCache.get(config, &1),
      delete: &PowRedisCache.delete(config, &1),
      all: &PowRedisCache.all(config, &1),
      stop: fn -> GenServer.stop(pid) end
    }
  end

  defp start_one(name, port, database, _records) when is_map_key(@indexes, name) do
    start_ours(name, url: "redis://127.0.0.1:#{port}/#{database}")
  end

  defp start_one(@sealed, port, database, _records) do
    url = "redis://127.0.0.1:#{port}/#{database}"
    seal = [keys: SealKeys.generate("bench"), plain: :refuse]
    %{start_ours(@plain, url: url, seal: seal) | name: @sealed}
  end

  defp start_one("ets", _port, _database, records) do
    table = :ets.new(:bench, [:set, :public, read_concurrency: true, write_concurrency: true])
    Enum.each(records, &:ets.insert(table, &1))

    %__MODULE__{
      name: "ets",
      put: fn records ->
        true = :ets.insert(table, records)
        :ok
      end,
      get: fn key ->
        case :ets.lookup(table, key) do
          [{_key, value}] -> value
          [] -> :not_found
        end
      end,
      delete: fn key ->
        true = :ets.delete(table, key)
        :ok
      end,
      all: &:ets.select(table, [{{&1, :_}, [], [:"$_"]}]),
      stop: fn -> :ets.delete(table) end
    }
  end

  defp start_one(name, port, database, _records) do
    {version, driver} =
      Enum.find(
        for(driver <- [Redix, Eredis], version <- [2, 1], do: {version, driver}),
        fn {version, driver} -> backend_name(version, driver) == name end
      )

    connection = driver.start!(port, database)
    pow_store = %PowGuideStore{client: connection, driver: driver, version: version}

    %__MODULE__{
      name: name,
      put: fn records ->
        PowGuideStore.put_all(
          pow_store,
          for({key, value} <- records, do: {parts(key), value}),
          @ttl
        )
      end,
      get: &PowGuideStore.get(pow_store, parts(&1)),
      delete: &PowGuideStore.delete(pow_store, parts(&1)),
      all: fn pattern ->
        {prefix, wildcards} = Enum.split_while(pattern, &(&1 != :_))
        PowGuideStore.all(pow_store, [@namespace | prefix], length(wildcards))
      end,
      stop: fn -> driver.stop(connection) end
    }
  end

  defp backend_name(version, driver),
    do: "Pow backend v#{version} on #{driver.name()}"

  defp parts(key), do: [@namespace | List.wrap(key)]
end
