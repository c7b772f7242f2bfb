defmodule PowRedisCache.Bench.ClusterLoad do
  @moduledoc """
  Measures how visits load the three primaries of a Cluster, and finds the largest key. Each user signs in,
  views a page, lists the sessions and signs out.
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
    sign_in = loads(&Visit.sign_in/3, nodes, times, client)
    full = Enum.map(nodes, &Counters.data_bytes/1)
    largest_key = nodes |> Enum.flat_map(&largest_key/1) |> Enum.max_by(& &1.bytes)
    page_view = loads(&Visit.view_page/3, nodes, times, client)
    list = loads(&Visit.list_sessions/3, nodes, times, client)
    sign_out = loads(&Visit.sign_out/3, nodes, times, client)

    Client.stop([client])
    Enum.each(nodes, &RedisClient.close/1)

    %{
      client: name,
      users: times * @callers,
      nodes: Enum.zip_with([empty, full, sign_in, page_view, list, sign_out], &totals/1),
      largest_key: largest_key
    }
  end

  # Each worker connects to a node as soon as it needs it.
  defp connect(client, nodes) do
    Wait.until(fn ->
      for number <- 1..100, do: :not_found = client.get.("#{number}")
      Enum.all?(nodes, &(commands(&1) > 100))
    end)
  end

  defp totals([empty, full, sign_in, page_view, list, sign_out]) do
    %{
      bytes: full - empty,
      sign_in: sign_in,
      page_view: page_view,
      list_sessions: list,
      sign_out: sign_out
    }
  end

  # The commands and the CPU time of each node.
  defp loads(call, nodes, times, client) do
    before = Enum.map(nodes, &load/1)

    LoadGenerator.run(
      @callers,
      {:times, times},
      fn _caller -> nil end,
      fn caller, number, _prepared -> call.(client, caller, number) end,
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
  defp readable(key), do: key |> String.split(":") |> Enum.map(&term/1) |> inspect()

  defp term(part), do: part |> Base.url_decode64!(padding: false) |> :erlang.binary_to_term()
end
