defmodule PowRedisCache.Case do
  @moduledoc """
  A case template: each test gets its own instance, namespace and raw client, on the Redis server that
  the test run shares.

    * `@tag instance: [...]` sets options of the instance; `name: nil` starts none.
    * `@tag server: [...]` starts a separate Redis server with these arguments.
    * `@tag :standalone` excludes the test from runs on a cluster.
    * `@tag :plain` excludes the test from runs with `SEAL=1`, in which values are sealed.

  With the environment variable `NEAR_CACHE=1`, instances keep the records of the test's namespace in
  memory, unless the test sets `:near_cache`.
  """

  use ExUnit.CaseTemplate

  alias PowRedisCache.{Cluster, PowGuideStore, RedisClient, RedisServer}

  using do
    quote do
      import PowRedisCache.Case
      alias PowRedisCache.{PowGuideStore, Ports, RedisClient, RedisServer, Wait}
    end
  end

  setup context do
    server = server(context)
    name = unique_name()
    namespace = "ns#{System.unique_integer([:positive])}"

    options = options(server, name, namespace, context[:instance] || [])

    if options[:name], do: start_supervised!({PowRedisCache, options})
    client = RedisClient.connect!(server.port)
    on_exit(fn -> RedisClient.close(client) end)

    [
      server: server,
      client: client,
      name: name,
      namespace: namespace,
      config: [name: name, namespace: namespace, ttl: :timer.hours(1)],
      pow_store: %PowGuideStore{client: client, version: 2}
    ]
  end

  @doc "A unique name for an instance."
  def unique_name, do: :"cache#{System.unique_integer([:positive])}"

  @doc "Starts another instance on the test's server and returns its configuration."
  def start_instance(context, options) do
    name = unique_name()

    child = {PowRedisCache, options(context.server, name, context.namespace, options)}

    start_supervised!(Supervisor.child_spec(child, id: name))
    Keyword.put(context.config, :name, name)
  end

  @doc """
  Calls a scan with a function for its `:progress`, and kills it half way. Returns the numbers up to there.
  """
  def kill_half_way(scan) do
    test = self()

    progress = fn numbers ->
      if numbers.fraction > 0.5 do
        send(test, {:half_way, numbers})
        Process.sleep(:infinity)
      end
    end

    runner = spawn(fn -> scan.(progress) end)
    assert_receive {:half_way, numbers}, 60_000
    Process.exit(runner, :kill)
    numbers
  end

  @doc "The records that `:ets` selects for a pattern, in the form that Pow's `EtsCache` returns."
  def ets_all(namespace, records, match) do
    pattern = {[namespace | List.wrap(match)], :_}
    compiled = :ets.match_spec_compile([{pattern, [], [:"$_"]}])

    records
    |> Enum.map(fn {key, value} -> {[namespace | List.wrap(key)], value} end)
    |> Enum.sort()
    |> :ets.match_spec_run(compiled)
    |> Enum.map(fn
      {[_namespace, key], value} -> {key, value}
      {[_namespace | key], value} -> {key, value}
    end)
  end

  # A long timeout, since the machine may be busy. Tests of timeouts set their own. An index of every
  # prefix, since a scan would read the keys of all tests that share the server.
  defp options(server, name, namespace, options) do
    [connect_option(server), name: name, timeout: 60_000, index: true, seal: seal()]
    |> Keyword.merge(near_cache(namespace))
    |> Keyword.merge(options)
  end

  @doc "The option `:seal` of a run with `SEAL=1`: values are sealed wherever a test does not set it."
  def seal do
    if System.get_env("SEAL"), do: [keys: [{"test", :crypto.hash(:sha256, "a key for tests")}]]
  end

  defp near_cache(namespace) do
    if System.get_env("NEAR_CACHE"),
      do: [near_cache: [namespaces: [namespace, "cache", "credentials"]]],
      else: []
  end

  @doc """
  The option with which an instance connects to a server, as a user with the least permissions. The shared
  server may be a node of a cluster.
  """
  def connect_option(server) do
    cluster = :persistent_term.get(Cluster, nil)
    shared = :persistent_term.get(RedisServer)

    if cluster && server == shared,
      do: {:cluster, Cluster.app_urls(cluster)},
      else: {:url, RedisServer.app_url(server)}
  end

  defp server(%{server: arguments}) when is_list(arguments) do
    server = RedisServer.start!(arguments)
    on_exit(fn -> RedisServer.stop(server) end)
    server
  end

  defp server(_context), do: :persistent_term.get(RedisServer)
end
