defmodule PowRedisCache.Bench.ClusterLoad do
  @moduledoc """
  Measures how sign-ins load the three primaries of a Cluster, and finds the largest key. Each sign-in is of
  another user, who then views a page and lists the sessions.
  """

  alias PowRedisCache.{Cluster, RedisClient, Wait}
  alias PowRedisCache.Bench.{Client, Counters, LoadGenerator, Visit}

  @callers 100
  # Of the replicas, and of the measurement itself.
  @other_commands ["replconf", "info"]
  @page 1_000

  @doc "Measures with a tenth of the sign-ins of the settings."
  def run(%{sign_ins: sign_ins}) do
    times = div(sign_ins, 10 * @callers)

    for name <- Client.indexed_names(), not String.contains?(name, "false") do
      cluster = Cluster.start!()
      result = measure(name, cluster, times)
      Cluster.stop(cluster)
      result
    end
  end

  defp measure(name, cluster, times) do
    nodes = for node <- Cluster.primaries(cluster), do: RedisClient.connect!(node.port)
    client = Client.start_ours(name, cluster: Cluster.urls(cluster))
    connect(client, nodes)

    empty = Enum.map(nodes, &Counters.data_bytes/1)
    sign_in = loads(nodes, times, [&Visit.sign_in/3], client)
    full = Enum.map(nodes, &Counters.data_bytes/1)
    reads = loads(nodes, times, [&Visit.view_page/3, &Visit.list_sessions/3], client)

    result = %{
      client: name,
      users: times * @callers,
      nodes: Enum.zip_with([empty, full, sign_in, reads], &totals/1),
      largest_key: nodes |> Enum.flat_map(&largest_key/1) |> Enum.max_by(& &1.bytes)
    }

    Client.stop([client])
    Enum.each(nodes, &RedisClient.close/1)
    result
  end

  # Each worker connects to a node as soon as it needs it.
  defp connect(client, nodes) do
    Wait.until(fn ->
      for number <- 1..100, do: :not_found = client.get.("#{number}")
      Enum.all?(nodes, &(commands(&1) > 100))
    end)
  end

  defp totals([empty, full, sign_in, reads]) do
    %{
      bytes: full - empty,
      sign_in_commands: sign_in.commands,
      read_commands: reads.commands,
      redis_cpu_us: sign_in.redis_cpu_us + reads.redis_cpu_us
    }
  end

  # The commands and the CPU time of each node.
  defp loads(nodes, times, calls, client) do
    before = Enum.map(nodes, &load/1)

    LoadGenerator.run(
      @callers,
      {:times, times},
      fn _caller -> nil end,
      fn caller, number, _prepared -> for call <- calls, do: call.(client, caller, number) end,
      &Map.new/0
    )

    for {node, before} <- Enum.zip(nodes, before) do
      Map.merge(load(node), before, fn _name, later, earlier -> later - earlier end)
    end
  end

  defp load(node) do
    %{commands: commands(node), redis_cpu_us: Counters.read(node).redis_cpu_us}
  end

  defp commands(node) do
    node
    |> RedisClient.command_counts()
    |> Map.drop(@other_commands)
    |> Map.values()
    |> Enum.sum()
  end

  # None, if the node has no keys.
  defp largest_key(node) do
    node
    |> keys("0")
    |> Enum.chunk_every(@page)
    |> Enum.flat_map(fn keys -> Enum.zip(keys, sizes(node, keys)) end)
    |> Enum.sort_by(fn {_key, bytes} -> -bytes end)
    |> Enum.take(1)
    |> Enum.map(fn {key, bytes} -> %{name: readable(key), bytes: bytes} end)
  end

  defp keys(node, cursor) do
    case RedisClient.command!(node, ["SCAN", cursor, "COUNT", @page]) do
      ["0", keys] -> keys
      [next, keys] -> keys ++ keys(node, next)
    end
  end

  defp sizes(node, keys) do
    {:ok, sizes} =
      RedisClient.pipeline(node, for(key <- keys, do: ["MEMORY", "USAGE", key, "SAMPLES", "0"]))

    sizes
  end

  # A key with its parts as terms.
  defp readable("_index:" <> key), do: "_index:" <> readable(key)

  defp readable(key) do
    key
    |> String.split(":")
    |> Enum.map_join(":", &(&1 |> Base.url_decode64!(padding: false) |> term()))
  end

  defp term(bytes), do: bytes |> :erlang.binary_to_term() |> inspect()
end
