defmodule PowRedisCache.Doctor.Checks do
  @moduledoc false
  # What an examination found, in words: a check each, with what to do.

  import PowRedisCache.Doctor.Failure, only: [failed: 2, not_told: 2]

  alias PowRedisCache.{Native, Options}
  alias PowRedisCache.Doctor.{Check, ConnectReport, Denied, Failure, KeyspaceStats, ServerInfo}

  # In the order in which each needs those before. Those that the server's own words answer are skipped
  # where it does not tell.
  @names [
    "library",
    "configuration",
    "location",
    "DNS",
    "connection",
    "TLS",
    "login",
    "server",
    "role",
    "latency",
    "memory",
    "eviction",
    "clients",
    "permissions",
    "clock",
    "keys",
    "atoms",
    "index"
  ]

  # From here on, a warning.
  @slow 10_000
  @skewed 2_000

  @doc "All checks, given the options and what the native library answered."
  def all(options, {:ok, report}) do
    subject = Map.put(report, :options, options)

    {checks, _blocker} =
      Enum.map_reduce(@names, nil, fn name, blocker ->
        check = check(name, subject) |> to_check(name, blocker || "server")
        {check, blocker || if(check.status == :error, do: name)}
      end)

    checks
  end

  def all(_options, {:error, reason}) do
    {detail, advice} = Failure.explain(reason)
    without("configuration", detail, advice)
  end

  @doc "The checks where one before the examination failed, with what was found and what to do."
  def without(failed, detail, advice) do
    {before, [_failed | later]} = Enum.split_while(@names, &(&1 != failed))

    Enum.map(before, &to_check(check(&1, nil), &1, nil)) ++
      [to_check({:error, detail, advice}, failed, nil)] ++
      Enum.map(later, &to_check(nil, &1, failed))
  end

  defp to_check(nil, name, blocker),
    do: to_check({:skipped, "needs #{blocker}"}, name, nil)

  defp to_check({status, detail}, name, _blocker), do: to_check({status, detail, nil}, name, nil)

  defp to_check({status, detail, advice}, name, _blocker) do
    %Check{
      name: name,
      status: status,
      detail: printable(detail),
      advice: advice && printable(advice)
    }
  end

  # What a server says of itself may hold what would play with a terminal.
  defp printable(text), do: String.replace(text, ~r/[^[:print:]]/u, "?")

  # What was found and what to do; nil where it was not looked at.

  defp check("library", _subject) do
    {version, target} = Native.built()
    path = "#{Native.path()}.so"
    Application.load(:pow_redis_cache)

    case to_string(Application.spec(:pow_redis_cache, :vsn)) do
      ^version ->
        {:ok, "#{version} for #{target}, #{path}"}

      package ->
        {:warning, "#{version} for #{target}, #{path}, of a package that is #{package}",
         "Run `mix deps.compile pow_redis_cache --force`, and start the app again."}
    end
  end

  defp check("configuration", %{options: options}) do
    shown =
      Enum.map_join([:pool_size, :timeout, :connect_timeout, :index], ", ", fn name ->
        "#{name}: #{inspect(options[name])}"
      end)

    {:ok, "#{Options.topology(options)}, #{shown}"}
  end

  defp check(name, subject) when name in ["location", "DNS", "connection", "TLS", "login"] do
    ConnectReport.check(name, subject)
  end

  defp check(name, subject) when name in ["server", "role", "memory", "eviction", "clients"] do
    ServerInfo.check(name, subject)
  end

  defp check("latency", %{latency: {:ok, latency}}) do
    found =
      "median #{ConnectReport.milliseconds(latency.median)}, slowest #{ConnectReport.milliseconds(latency.slowest)} of #{latency.pings} pings"

    if latency.median >= @slow,
      do:
        {:warning, found, "Each call takes that long: let app and Redis run in the same region."},
      else: {:ok, found}
  end

  defp check("latency", %{latency: {:error, reason}} = subject), do: not_told(reason, subject)

  defp check("permissions", %{denied: {:ok, denied}} = subject) do
    Denied.check(denied, subject.connect.user, Options.topology(subject.options))
  end

  defp check("permissions", %{denied: {:error, reason}}),
    do: failed("could not be tried", reason)

  defp check("clock", %{clock_skew_ms: {:ok, skew}}) when abs(skew) >= @skewed do
    {:warning,
     "the server's is #{abs(skew)} ms #{if skew > 0, do: "ahead of", else: "behind"} this host's",
     "Run NTP on both. This package goes by the server's clock, the pasted module by the host's."}
  end

  defp check("clock", %{clock_skew_ms: {:ok, skew}}), do: {:ok, "#{skew} ms apart"}
  defp check("clock", %{clock_skew_ms: {:error, reason}} = subject), do: not_told(reason, subject)

  defp check(name, %{keyspace_stats: %{} = keyspace_stats, options: options})
       when name in ["keys", "atoms", "index"] do
    KeyspaceStats.check(name, keyspace_stats, options)
  end

  defp check(_name, _subject), do: nil
end
