defmodule PowRedisCache.Commands do
  @moduledoc false
  # The Redis commands that the native library uses, each with arguments with which it changes nothing
  # where there is no such key or set.

  @used [
    ["DEL", :key],
    ["EXISTS", :key],
    ["GET", :key],
    ["PEXPIRE", :set, "1", "NX"],
    ["PING"],
    ["PTTL", :key],
    ["RENAMENX", :key, :key],
    ["SCAN", "0", "COUNT", "1"],
    ["SET", :key, "", "XX"],
    ["TIME"],
    ["ZADD", :set, "XX", "0", "member"],
    ["ZREM", :set, "member"],
    ["ZREMRANGEBYSCORE", :set, "-inf", "-inf"],
    ["ZSCAN", :set, "0"],
    ["ZSCORE", :set, "member"]
  ]

  # What finding the server takes beyond these.
  @of_topology %{
    standalone: [],
    sentinel: [["ROLE"]],
    cluster: [["CLUSTER", "SLOTS"], ["ASKING"]]
  }

  @doc "The names of the commands that every instance uses."
  def names, do: Enum.map(@used, &hd/1)

  @doc "The names of those that take a key."
  def of_keys do
    for [name | arguments] <- @used, Enum.any?(arguments, &is_atom/1), do: name
  end

  @doc "All names as ACL rules, with those of a topology."
  def rules(topology) do
    for [name | arguments] <- used(topology) do
      # Of a command with subcommands, this one alone.
      if name == "CLUSTER",
        do: "+cluster|" <> String.downcase(hd(arguments)),
        else: "+" <> String.downcase(name)
    end
  end

  @doc "The commands of a topology, to be tried: about a key and a set that do not exist."
  def probes(topology) do
    parts = ["pow_redis_cache", :crypto.strong_rand_bytes(16)]

    key =
      Enum.map_join(parts, ":", fn part ->
        part |> :erlang.term_to_binary() |> Base.url_encode64(padding: false)
      end)

    for command <- used(topology) do
      Enum.map(command, fn
        :key -> key
        :set -> "_index:" <> key
        text -> text
      end)
    end
  end

  defp used(topology), do: @used ++ Map.fetch!(@of_topology, topology)
end
