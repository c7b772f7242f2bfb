defmodule PowRedisCache.Doctor.KeyspaceStats do
  @moduledoc false
  # What lies in the database.

  alias PowRedisCache.Error

  # How long counting may take, in milliseconds.
  @time 30_000
  # More namespaces than these are summed up.
  @shown 10

  @reindex "Run mix pow_redis_cache.reindex once all servers run this package."
  # There is no reindex on a Cluster.
  @wait "On a Cluster they stay so until they expire or are written again."

  @doc "How long counting may take, in milliseconds."
  def time, do: @time

  @doc "A check, given what was counted."
  def check("keys", keyspace_stats, options) do
    plain =
      for({_namespace, _indexed, plain} <- keyspace_stats.namespaces, do: plain) |> Enum.sum()

    found = found(keyspace_stats.namespaces) <> counted(keyspace_stats)

    case keyspace_stats.end do
      {:error, reason} ->
        error = Error.from_native(:count, reason)
        {:warning, found, Exception.message(error)}

      _ when plain > 0 and options.index ->
        {:warning, found, "all/2 does not find those without index. " <> advice(options)}

      _ ->
        {:ok, found}
    end
  end

  def check("atoms", %{legacy: 0}, _options) do
    {:ok, "no key in the form of Erlang/OTP 25 and earlier"}
  end

  def check("atoms", %{legacy: number}, options) do
    {:warning,
     "#{number} keys in the form of Erlang/OTP 25 and earlier; they are found, at more cost",
     advice(options)}
  end

  def check("index", keyspace_stats, options) do
    found = "#{keyspace_stats.sets} sets with #{keyspace_stats.members} members"

    wrong =
      [
        {keyspace_stats.stale, "#{keyspace_stats.stale} members without value before their time"},
        {keyspace_stats.expires_early,
         "#{keyspace_stats.expires_early} sets that end before a key that they list"}
      ]
      |> Enum.filter(&(elem(&1, 0) > 0))

    case wrong do
      [] ->
        {:ok, "#{found}, #{keyspace_stats.expired} of them expired"}

      _ ->
        {:warning, "#{found}: #{Enum.map_join(wrong, ", ", &elem(&1, 1))}",
         [stale(keyspace_stats), expires_early(keyspace_stats, options)]
         |> Enum.reject(&is_nil/1)
         |> Enum.join(" ")}
    end
  end

  defp stale(%{stale: 0}), do: nil

  defp stale(_keyspace_stats) do
    "Something else than this package deletes values, or Redis evicts them; all/2 removes such members when " <>
      "it meets them."
  end

  defp expires_early(%{expires_early: 0}, _options), do: nil

  defp expires_early(_keyspace_stats, options) do
    "The pasted module writes such sets, and when they end all/2 misses live sessions. " <>
      advice(options)
  end

  defp advice(%{cluster: [_ | _]}), do: @wait
  defp advice(_options), do: @reindex

  defp found([]), do: "none of ours"

  defp found(namespaces) do
    sorted = Enum.sort_by(namespaces, fn {_namespace, indexed, plain} -> -(indexed + plain) end)
    {shown, others} = Enum.split(sorted, @shown)
    more = if others == [], do: [], else: ["#{length(others)} more namespaces"]

    (Enum.map(shown, fn {namespace, indexed, plain} ->
       "#{name(namespace)} #{indexed} in the index and #{plain} not"
     end) ++ more)
    |> Enum.join("; ")
  end

  # Namespaces are those of Pow or of the configuration: text or an atom.
  defp name(bytes) do
    case :erlang.binary_to_term(bytes, [:safe]) do
      term when is_binary(term) or is_atom(term) -> inspect(term, printable_limit: 40)
      _term -> "another term"
    end
  rescue
    ArgumentError -> "another term"
  end

  defp counted(%{end: :complete, keys: keys}), do: "; #{keys} keys in all"

  defp counted(%{end: :stopped, keys: keys}),
    do: "; counted #{keys} keys, stopped after #{div(@time, 1_000)} s"

  defp counted(%{end: {:error, _reason}, keys: keys}),
    do: "; counted #{keys} keys, then it failed"
end
