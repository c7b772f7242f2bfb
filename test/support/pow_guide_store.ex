defmodule PowRedisCache.PowGuideStore do
  @moduledoc """
  Pow's example backend, v1 or v2. Writes the same bytes to Redis as the module in Pow's documentation,
  with plain commands.

    * `version` - `1` finds keys with `SCAN`, `2` with index sets.
    * `otp` - the Erlang/OTP release whose encoding is written: `25` encodes atoms in Latin-1, `26` in UTF-8.
    * `client` - a Redis client, and `driver` its module.
  """

  alias PowRedisCache.RedisClient

  defstruct [:client, :version, driver: RedisClient, otp: 26]

  @doc "The Redis key of a key's parts."
  def path(pow_store, parts), do: Enum.map_join(parts, ":", &encode(pow_store, &1))

  @doc "The Redis key of the index set of a prefix."
  def index_set(pow_store, parts), do: "_index:" <> path(pow_store, parts)

  @doc "The commands that write a record."
  def put_commands(%{version: 1} = pow_store, parts, value, ttl),
    do: [set(pow_store, parts, value, ttl)]

  def put_commands(%{version: 2} = pow_store, parts, value, ttl) do
    now = System.os_time(:millisecond)

    index =
      for {prefix, rest} <- splits(parts) do
        set = index_set(pow_store, prefix)

        [
          ["ZREMRANGEBYSCORE", set, "-inf", now],
          ["ZADD", set, now + ttl, path(pow_store, rest)],
          ["PEXPIRE", set, ttl]
        ]
      end

    Enum.concat(index) ++ [set(pow_store, parts, value, ttl)]
  end

  def put(pow_store, parts, value, ttl), do: put_all(pow_store, [{parts, value}], ttl)

  @doc "Writes records in one pipeline."
  def put_all(pow_store, records, ttl) do
    pipeline(
      pow_store,
      Enum.flat_map(records, fn {k, v} -> put_commands(pow_store, k, v, ttl) end)
    )
  end

  def get(pow_store, parts) do
    case command!(pow_store, ["GET", path(pow_store, parts)]) do
      nil -> :not_found
      value -> :erlang.binary_to_term(value)
    end
  end

  def delete(%{version: 1} = pow_store, parts) do
    command!(pow_store, ["DEL", path(pow_store, parts)])
    :ok
  end

  def delete(%{version: 2} = pow_store, parts) do
    index =
      for {prefix, rest} <- splits(parts),
          do: ["ZREM", index_set(pow_store, prefix), path(pow_store, rest)]

    pipeline(pow_store, [["DEL", path(pow_store, parts)] | index])
  end

  @doc "The records whose keys are the prefix and `wildcards` further parts."
  def all(%{version: 1} = pow_store, prefix, wildcards) do
    pattern = Enum.join([path(pow_store, prefix) | List.duplicate("*", wildcards)], ":")

    pages(pow_store, ["SCAN"], ["MATCH", pattern], fn keys ->
      read(pow_store, [], keys, length(prefix) + wildcards)
    end)
  end

  def all(%{version: 2} = pow_store, prefix, wildcards) do
    set = index_set(pow_store, prefix)
    command!(pow_store, ["ZREMRANGEBYSCORE", set, "-inf", System.os_time(:millisecond)])

    pages(pow_store, ["ZSCAN", set], [], fn items ->
      read(pow_store, prefix, Enum.take_every(items, 2), wildcards)
    end)
  end

  # The records of a page of keys or index members that have the wanted number of parts.
  defp read(pow_store, prefix, keys, wildcards) do
    found =
      for key <- keys,
          parts = key |> String.split(":") |> Enum.map(&decode/1),
          length(parts) == wildcards,
          do: prefix ++ parts

    for {[_namespace | key], value} when value != nil <-
          Enum.zip(found, values(pow_store, found)),
        do: {key, :erlang.binary_to_term(value)}
  end

  defp values(_guide, []), do: []

  defp values(pow_store, keys),
    do: command!(pow_store, ["MGET" | Enum.map(keys, &path(pow_store, &1))])

  @doc "The members of an index set, decoded."
  def members(pow_store, parts) do
    for member <- command!(pow_store, ["ZRANGE", index_set(pow_store, parts), 0, -1]),
        do: member |> String.split(":") |> Enum.map(&decode/1)
  end

  defp set(pow_store, parts, value, ttl) do
    ["SET", path(pow_store, parts), :erlang.term_to_binary(value), "PX", ttl]
  end

  defp splits(parts), do: for(i <- 1..(length(parts) - 1)//1, do: Enum.split(parts, i))

  defp pages(pow_store, command, options, read, cursor \\ "0") do
    [next, items] = command!(pow_store, command ++ [cursor | options])
    records = read.(items)
    if next == "0", do: records, else: records ++ pages(pow_store, command, options, read, next)
  end

  defp command!(pow_store, command), do: pow_store.driver.command!(pow_store.client, command)

  defp pipeline(pow_store, commands) do
    {:ok, replies} = pow_store.driver.pipeline(pow_store.client, commands)
    false = Enum.any?(replies, &match?({:error, _}, &1))
    :ok
  end

  defp encode(%{otp: otp}, part) do
    version = if otp >= 26, do: 2, else: 1
    part |> :erlang.term_to_binary(minor_version: version) |> Base.url_encode64(padding: false)
  end

  defp decode(part), do: part |> Base.url_decode64!(padding: false) |> :erlang.binary_to_term()
end
