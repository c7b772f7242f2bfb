defmodule PowRedisCache.Guide do
  @moduledoc """
  The modules that Pow's guide tells people to paste, first and current edition, in our own words:
  the same bytes in Redis, written and read with plain commands.

  `otp` says whose bytes: `25` writes atoms in Latin-1, `26` in UTF-8, as `term_to_binary/1` of these
  releases does.
  """

  alias PowRedisCache.RedisClient

  defstruct [:client, :edition, otp: 26]

  @doc "Where a key lies."
  def path(guide, parts), do: Enum.map_join(parts, ":", &encode(guide, &1))

  @doc "The name of the index set of some first parts."
  def index_set(guide, parts), do: "_index:" <> path(guide, parts)

  @doc "The commands with which the guide's module writes a record."
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

  def put(guide, parts, value, ttl) do
    {:ok, replies} = RedisClient.pipeline(guide.client, put_commands(guide, parts, value, ttl))
    false = Enum.any?(replies, &match?({:error, _}, &1))
    :ok
  end

  def get(guide, parts) do
    case RedisClient.command!(guide.client, ["GET", path(guide, parts)]) do
      nil -> :not_found
      value -> :erlang.binary_to_term(value)
    end
  end

  def delete(guide, parts) do
    RedisClient.command!(guide.client, ["DEL", path(guide, parts)])

    if guide.edition == :current do
      for {prefix, rest} <- splits(parts) do
        RedisClient.command!(guide.client, ["ZREM", index_set(guide, prefix), path(guide, rest)])
      end
    end

    :ok
  end

  @doc "The records below some first parts, `wildcards` parts deeper, found as the module finds them."
  def all(%{edition: :first} = guide, prefix, wildcards) do
    pattern = Enum.join([path(guide, prefix) | List.duplicate("*", wildcards)], ":")
    wanted = length(prefix) + wildcards

    for key <- scan(guide.client, ["SCAN"], ["MATCH", pattern]),
        parts = key |> String.split(":") |> Enum.map(&decode/1),
        length(parts) == wanted,
        do: {tl(parts), get(guide, parts)}
  end

  def all(%{edition: :current} = guide, prefix, wildcards) do
    items = scan(guide.client, ["ZSCAN", index_set(guide, prefix)], [])

    for [member, _score] <- Enum.chunk_every(items, 2),
        parts = member |> String.split(":") |> Enum.map(&decode/1),
        length(parts) == wildcards,
        do: {tl(prefix ++ parts), get(guide, prefix ++ parts)}
  end

  @doc "The members of an index set, decoded."
  def members(guide, parts) do
    for member <- RedisClient.command!(guide.client, ["ZRANGE", index_set(guide, parts), 0, -1]),
        do: member |> String.split(":") |> Enum.map(&decode/1)
  end

  defp set(guide, parts, value, ttl) do
    ["SET", path(guide, parts), :erlang.term_to_binary(value), "PX", ttl]
  end

  defp splits(parts), do: for(i <- 1..(length(parts) - 1)//1, do: Enum.split(parts, i))

  defp scan(client, command, options, cursor \\ "0") do
    [next, items] = RedisClient.command!(client, command ++ [cursor | options])
    if next == "0", do: items, else: items ++ scan(client, command, options, next)
  end

  defp encode(%{otp: otp}, part) do
    version = if otp >= 26, do: 2, else: 1
    part |> :erlang.term_to_binary(minor_version: version) |> Base.url_encode64(padding: false)
  end

  defp decode(part), do: part |> Base.url_decode64!(padding: false) |> :erlang.binary_to_term()
end
