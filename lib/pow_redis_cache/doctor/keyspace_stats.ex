defmodule PowRedisCache.Doctor.KeyspaceStats do
  @moduledoc false
  # The checks of the keys, the legacy keys and the index in the database.

  alias PowRedisCache.Error

  # The timeout of the scan, in milliseconds.
  @timeout 30_000
  # The number of namespaces to list.
  @max_namespaces 10

  @reindex "Run `mix pow_redis_cache.reindex` once all hosts run this package."

  @doc "The timeout of the scan, in milliseconds."
  def timeout, do: @timeout

  @doc "Returns the result of a check."
  def check("keys", keyspace_stats) do
    plain =
      for({_namespace, _indexed, plain} <- keyspace_stats.namespaces, do: plain) |> Enum.sum()

    detail =
      namespaces(keyspace_stats.namespaces) <>
        scanned(keyspace_stats) <> skipped(keyspace_stats.too_long)

    case keyspace_stats.end do
      {:error, reason} ->
        error = Error.from_native(:count, reason)
        {:warning, detail, Exception.message(error)}

      _ when plain > 0 ->
        {:warning, detail,
         "all/2 does not find keys that are missing from the index. #{@reindex}"}

      _ ->
        {:ok, detail}
    end
  end

  def check("legacy keys", %{legacy: 0}), do: {:ok, "none"}

  def check("legacy keys", %{legacy: count}) do
    {:warning, "#{count} keys written on Erlang/OTP 25 or earlier; reading them is slower",
     @reindex}
  end

  def check("index", keyspace_stats) do
    detail = "#{keyspace_stats.sets} sets with #{keyspace_stats.members} members"
    unused = unused(keyspace_stats.unused_sets)

    problems =
      [
        {keyspace_stats.stale, "#{keyspace_stats.stale} unexpired members without a value"},
        {keyspace_stats.expires_early,
         "#{keyspace_stats.expires_early} sets that expire before one of their keys"}
      ]
      |> Enum.filter(&(elem(&1, 0) > 0))

    case problems do
      [] ->
        {:ok, "#{detail}, #{keyspace_stats.expired} of them expired#{unused}"}

      _ ->
        {:warning, "#{detail}: #{Enum.map_join(problems, ", ", &elem(&1, 1))}#{unused}",
         [stale(keyspace_stats), expires_early(keyspace_stats)]
         |> Enum.reject(&is_nil/1)
         |> Enum.join(" ")}
    end
  end

  defp stale(%{stale: 0}), do: nil

  defp stale(_keyspace_stats) do
    "Another client deletes values, or Redis evicts them. all/2 ignores such members, and later puts " <>
      "remove them."
  end

  defp expires_early(%{expires_early: 0}), do: nil

  defp expires_early(_keyspace_stats) do
    "Pow's example backend writes such sets. Once they expire, all/2 misses live sessions. #{@reindex}"
  end

  defp unused(0), do: ""

  defp unused(number) do
    ". #{number} more that :index does not use: `mix pow_redis_cache.reindex --prune` deletes them, " <>
      "once no server uses them"
  end

  defp namespaces([]), do: "none of this package"

  defp namespaces(namespaces) do
    sorted = Enum.sort_by(namespaces, fn {_namespace, indexed, plain} -> -(indexed + plain) end)
    {shown, others} = Enum.split(sorted, @max_namespaces)
    more = if others == [], do: [], else: ["#{length(others)} more namespaces"]

    (Enum.map(shown, fn {namespace, indexed, plain} ->
       "#{name(namespace)} #{indexed + plain}#{missing(plain)}"
     end) ++ more)
    |> Enum.join("; ")
  end

  defp missing(0), do: ""
  defp missing(plain), do: " (#{plain} missing from the index)"

  # Pow and apps use text or an atom as the namespace.
  defp name(bytes) do
    case :erlang.binary_to_term(bytes, [:safe]) do
      term when is_binary(term) or is_atom(term) -> inspect(term, printable_limit: 40)
      _term -> "another term"
    end
  rescue
    ArgumentError -> "another term"
  end

  defp scanned(%{end: :complete, keys: keys}), do: "; #{keys} keys in total"

  defp scanned(%{end: :stopped, keys: keys}),
    do: "; scanned #{keys} keys, stopped after #{div(@timeout, 1_000)} s"

  defp scanned(%{end: {:error, _reason}, keys: keys}),
    do: "; scanned #{keys} keys, then failed"

  defp skipped(0), do: ""
  defp skipped(number), do: "; skipped #{number} with more than 64 parts or 16 kB"
end
