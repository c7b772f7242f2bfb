defmodule PowRedisCache.Commands do
  @moduledoc false
  # The Redis commands that the native library uses. With these arguments, a command changes nothing
  # as long as its key or index set does not exist.

  @used [
    ["DEL", :key],
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

  # Calls work without these, and without TIME. No connection has this id and address.
  @optional [
    ["CLIENT", "INFO"],
    ["CLIENT", "KILL", "ID", "9223372036854775807", "ADDR", "127.0.0.1:0"],
    ["ECHO", ""],
    ["INFO", "server"]
  ]

  # More commands, to find the primary or the slots.
  @topology %{
    standalone: [],
    sentinel: [["ROLE"]],
    cluster: [["CLUSTER", "SLOTS"], ["CLUSTER", "NODES"], ["ASKING"]]
  }

  # More commands for a near cache, by topology. Without them, or without INFO, all reads go to Redis. It also
  # needs HELLO, which Redis permits to everyone.
  @tracking ["CLIENT", "TRACKING", "OFF"]
  @near_cache %{
    standalone: [@tracking],
    sentinel: [@tracking],
    cluster: [@tracking, ["CLUSTER", "INFO"]]
  }

  @doc "Names of the commands that every instance uses."
  def names, do: Enum.map(@used, &hd/1)

  @doc "Names of the commands without which calls work."
  def optional, do: ["TIME" | Enum.map(@optional ++ @near_cache.cluster, &name/1)]

  @doc "Names of the commands that take a key."
  def with_keys do
    for [name | arguments] <- @used, Enum.any?(arguments, &is_atom/1), do: name
  end

  @doc """
  ACL rules that permit the keys. Each starts with the version byte of the external term format, which is
  "g" in Base64.
  """
  def key_rules, do: ["~g*", "~_index:*"]

  @doc """
  ACL rules that permit all commands of a topology, with or without a near cache. A database other than 0
  also needs `+select`, which is left out since it permits all databases.
  """
  def acl_rules(topology, near_cache? \\ false) do
    for command <- used(topology, near_cache?), do: "+" <> String.downcase(name(command))
  end

  @doc "A key that does not exist."
  def unused_key do
    Enum.map_join(["pow_redis_cache", :crypto.strong_rand_bytes(16)], ":", fn part ->
      part |> :erlang.term_to_binary() |> Base.url_encode64(padding: false)
    end)
  end

  @doc """
  All commands of a topology with their names, with or without a near cache, on a key and an index set that
  do not exist.
  """
  def probes(topology, near_cache?, key \\ unused_key()) do
    for command <- used(topology, near_cache?) do
      {name(command),
       Enum.map(command, fn
         :key -> key
         :set -> "_index:" <> key
         text -> text
       end)}
    end
  end

  defp used(topology, near_cache?) do
    near_cache = if near_cache?, do: Map.fetch!(@near_cache, topology), else: []
    @used ++ @optional ++ Map.fetch!(@topology, topology) ++ near_cache
  end

  # As rules permit it: with the subcommand, if there is one.
  defp name([command, subcommand | _]) when command in ["CLIENT", "CLUSTER"],
    do: "#{command}|#{subcommand}"

  defp name([command | _]), do: command
end
