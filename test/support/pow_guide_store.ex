defmodule PowRedisCache.PowGuideStore do
  @moduledoc """
  Pow's example backend, v1 or v2. Writes the same bytes to Redis as the module in Pow's documentation,
  with plain commands.

    * `edition` - `:first` (v1) finds keys with `SCAN`, `:current` (v2) with index sets.
    * `otp` - the Erlang/OTP release whose encoding is written: `25` encodes atoms in Latin-1, `26` in UTF-8.
    * `client` - a Redis client, and `driver` its module.
  """

  alias PowRedisCache.RedisClient

  defstruct [:client, :edition, driver: RedisClient, otp: 26]

  @doc "The Redis key of a key's parts."
  def path(guide, parts), do: Enum.map_join(parts, ":", &encode(guide, &1))

  @doc "The Redis key of the index set of a prefix."
  def index_set(guide, parts), do: "_index:" <> path(guide, parts)

  @doc "The commands that write a record."
  def put_commands(%{edition: :first} = guide, parts, value, ttl),
    do: [set(guide, parts, value, ttl)]

  def put_commands(%{edition: :current} = guide, parts, value, ttl) do
    now = System.os_time(:millisecond)

    index =
      for {prefix, rest} <- splits(parts) do
        set = index_set(guide, prefix)

        [
          ["ZREMRANGEBYSCORE", set, "-inf", now],
          ["ZADD", set, now + ttl, path(guide, rest)],
          ["PEXPIRE", set, ttl]
        ]
      end

    Enum.concat(index) ++ [set(guide, parts, value, ttl)]
  end

  def put(guide, parts, value, ttl), do: put_all(guide, [{parts, value}], ttl)

  @doc "Writes records in one pipeline."
  def put_all(guide, records, ttl) do
    pipeline(guide, Enum.flat_map(records, fn {k, v} -> put_commands(guide, k, v, ttl) end))
  end

  def get(guide, parts) do
    case command!(guide, ["GET", path(guide, parts)]) do
      nil -> :not_found
      value -> :erlang.binary_to_term(value)
    end
  end

  def delete(%{edition: :first} = guide, parts) do
    command!(guide, ["DEL", path(guide, parts)])
    :ok
  end

  def delete(%{edition: :current} = guide, parts) do
    index =
      for {prefix, rest} <- splits(parts),
          do: ["ZREM", index_set(guide, prefix), path(guide, rest)]

    pipeline(guide, [["DEL", path(guide, parts)] | index])
  end

  @doc "The records whose keys are the prefix and `wildcards` further parts."
  def all(%{edition: :first} = guide, prefix, wildcards) do
    pattern = Enum.join([path(guide, prefix) | List.duplicate("*", wildcards)], ":")

    pages(guide, ["SCAN"], ["MATCH", pattern], fn keys ->
      read(guide, [], keys, length(prefix) + wildcards)
    end)
  end

  def all(%{edition: :current} = guide, prefix, wildcards) do
    set = index_set(guide, prefix)
    command!(guide, ["ZREMRANGEBYSCORE", set, "-inf", System.os_time(:millisecond)])

    pages(guide, ["ZSCAN", set], [], fn items ->
      read(guide, prefix, Enum.take_every(items, 2), wildcards)
    end)
  end

  # The records of a page of keys or index members that have the wanted number of parts.
  defp read(guide, prefix, keys, wildcards) do
    found =
      for key <- keys,
          parts = key |> String.split(":") |> Enum.map(&decode/1),
          length(parts) == wildcards,
          do: prefix ++ parts

    for {[_namespace | key], value} when value != nil <- Enum.zip(found, values(guide, found)),
        do: {key, :erlang.binary_to_term(value)}
  end

  defp values(_guide, []), do: []
  defp values(guide, keys), do: command!(guide, ["MGET" | Enum.map(keys, &path(guide, &1))])

  @doc "The members of an index set, decoded."
  def members(guide, parts) do
    for member <- command!(guide, ["ZRANGE", index_set(guide, parts), 0, -1]),
        do: member |> String.split(":") |> Enum.map(&decode/1)
  end

  defp set(guide, parts, value, ttl) do
    ["SET", path(guide, parts), :erlang.term_to_binary(value), "PX", ttl]
  end

  defp splits(parts), do: for(i <- 1..(length(parts) - 1)//1, do: Enum.split(parts, i))

  defp pages(guide, command, options, read, cursor \\ "0") do
    [next, items] = command!(guide, command ++ [cursor | options])
    records = read.(items)
    if next == "0", do: records, else: records ++ pages(guide, command, options, read, next)
  end

  defp command!(guide, command), do: guide.driver.command!(guide.client, command)

  defp pipeline(guide, commands) do
    {:ok, replies} = guide.driver.pipeline(guide.client, commands)
    false = Enum.any?(replies, &match?({:error, _}, &1))
    :ok
  end

  defp encode(%{otp: otp}, part) do
    version = if otp >= 26, do: 2, else: 1
    part |> :erlang.term_to_binary(minor_version: version) |> Base.url_encode64(padding: false)
  end

  defp decode(part), do: part |> Base.url_decode64!(padding: false) |> :erlang.binary_to_term()
end
