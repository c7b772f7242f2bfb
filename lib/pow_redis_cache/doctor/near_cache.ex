defmodule PowRedisCache.Doctor.NearCache do
  @moduledoc false
  # The check whether Redis tracks what is read, and reports changes.

  alias PowRedisCache.{Commands, Options}
  alias PowRedisCache.Doctor.{ConnectReport, Failure}

  # A warning if less than a tenth of the keys that may be tracked are left.
  @min_keys_left 10

  @doc "Returns the result of the check."
  def check({:ok, %{delay: nil}}, _report) do
    {:error, "Redis tracks reads, but a change was not reported: records would be out of date",
     "Connect without the proxy between this host and Redis, or remove :near_cache."}
  end

  def check({:ok, near_cache}, report) do
    detail =
      "Redis reports a change after #{ConnectReport.milliseconds(near_cache.delay)}, and tracks " <>
        keys(near_cache)

    case room(near_cache, report) do
      :enough ->
        {:ok, detail}

      needed ->
        {:warning, detail <> found(report),
         "`CONFIG SET tracking-table-max-keys #{needed}`, or set it at your provider. When the table is " <>
           "full, Redis reports keys as changed that are not, and they are read again."}
    end
  end

  def check({:error, {:server, %{code: "NOPERM"}}}, %{connect: connect, options: options}) do
    topology = Options.topology(options)
    rules = Commands.acl_rules(topology, true) -- Commands.acl_rules(topology)

    {:warning, "off, all reads go to Redis: the user may not run a command that it needs",
     "Run on the server: `ACL SETUSER #{connect.user} +info #{Enum.join(rules, " ")}`"}
  end

  def check({:error, {:server, %{code: "ERR"}}}, _report) do
    {:warning, "off, all reads go to Redis: the server refuses HELLO 3 or CLIENT TRACKING",
     "Connect without the proxy between this host and Redis, or remove :near_cache."}
  end

  def check({:error, reason}, %{options: options}) do
    {cause, advice} = Failure.explain(reason, Options.topology(options))
    {:warning, "could not be tested: #{cause}", advice}
  end

  defp keys(%{tracked_keys: nil, max_tracked_keys: most}),
    do: "an unknown number of keys" <> of(most)

  defp keys(%{tracked_keys: tracked, max_tracked_keys: most}), do: "#{tracked} keys" <> of(most)

  # Users that may not run CONFIG are common.
  defp of(nil), do: "; how many it may track is unknown: the user may not run CONFIG GET"
  defp of(0), do: " without a limit"
  defp of(most), do: " of at most #{most}"

  # Whether the table has room for all keys of the database, or how much it needs.
  defp room(%{max_tracked_keys: most}, _report) when most in [nil, 0], do: :enough

  defp room(%{tracked_keys: tracked, max_tracked_keys: most}, report) do
    keys = max(tracked || 0, found_keys(report))
    if keys > most - div(most, @min_keys_left), do: 2 * keys, else: :enough
  end

  defp found(%{keyspace_stats: %{keys: keys}}), do: ". The database has #{keys} keys"
  defp found(_report), do: ""

  defp found_keys(%{keyspace_stats: %{keys: keys}}), do: keys
  defp found_keys(_report), do: 0
end
