defmodule PowRedisCache.Case do
  @moduledoc """
  A test with an instance, a namespace and a raw client of its own, on the Redis server that all
  tests of the run share. `@tag instance: [...]` gives the instance options, `@tag server: [...]` the
  test a server of its own.
  """

  use ExUnit.CaseTemplate

  alias PowRedisCache.{Guide, RedisClient, RedisServer}

  using do
    quote do
      import PowRedisCache.Case
      alias PowRedisCache.{Guide, RedisClient, RedisServer, Wait}
    end
  end

  setup context do
    server = server(context)
    name = unique_name()

    options = Keyword.merge([name: name, url: RedisServer.url(server)], context[:instance] || [])

    if options[:name], do: start_supervised!({PowRedisCache, options})
    client = RedisClient.connect!(server.port)
    on_exit(fn -> RedisClient.close(client) end)
    namespace = "ns#{System.unique_integer([:positive])}"

    [
      server: server,
      client: client,
      name: name,
      namespace: namespace,
      config: [name: name, namespace: namespace, ttl: :timer.hours(1)],
      guide: %Guide{client: client, edition: :current}
    ]
  end

  @doc "An atom that no other test uses for an instance."
  def unique_name, do: :"cache#{System.unique_integer([:positive])}"

  @doc "Another instance on the test's server, and a configuration for it."
  def start_instance(context, options) do
    name = unique_name()

    child =
      {PowRedisCache, Keyword.merge([name: name, url: RedisServer.url(context.server)], options)}

    start_supervised!(Supervisor.child_spec(child, id: name))
    Keyword.put(context.config, :name, name)
  end

  @doc "What `:ets` finds among records for a pattern, as Pow's EtsCache would answer."
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

  defp server(%{server: arguments}) do
    server = RedisServer.start!(arguments)
    on_exit(fn -> RedisServer.stop(server) end)
    server
  end

  defp server(_context), do: :persistent_term.get(RedisServer)
end
