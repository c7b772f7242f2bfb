defmodule PowRedisCache.Commands do
  @moduledoc false
  # The Redis commands that the native library uses. With these arguments, a command changes nothing
  # as long as its key or index set does not exist.

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

  # More commands, to find the primary or the slots.
  @topology %{
    standalone: [],
    sentinel: [["ROLE"]],
    cluster: [["CLUSTER", "SLOTS"], ["ASKING"]]
  }

  @doc "Names of the commands that every instance uses."
  def names, do: Enum.map(@used, &hd/1)

  @doc "Names of the commands that take a key."
  def with_keys do
    for [name | arguments] <- @used, Enum.any?(arguments, &is_atom/1), do: name
  end

  @doc "ACL rules that permit all commands of a topology."
  def acl_rules(topology) do
    for [name | arguments] <- used(topology) do
      # Permits only the subcommand in use.
      if name == "CLUSTER",
        do: "+cluster|" <> String.downcase(hd(arguments)),
        else: "+" <> String.downcase(name)
    end
  end

  @doc "All commands of a topology, on a key and an index set that do not exist."
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

  defp used(topology), do: @used ++ Map.fetch!(@topology, topology)
end
