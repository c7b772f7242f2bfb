defmodule PowRedisCache.Doctor.Checks do
  @moduledoc false
  # Turns the report of the native library into checks, each with advice.

  import PowRedisCache.Doctor.Failure, only: [failure: 3, unknown: 2]

  alias PowRedisCache.{Native, Options}

  alias PowRedisCache.Doctor.{
    Check,
    ConnectReport,
    Denied,
    Failure,
    KeyspaceStats,
    NearCache,
    ServerInfo
  }

  # In order: each check depends on the previous ones. Checks that need INFO are skipped if the user
  # may not run it.
  @names [
    "library",
    "configuration",
    "endpoint",
    "DNS",
    "connection",
    "TLS",
    "login",
    "server",
    "role",
    "latency",
    "memory",
    "eviction",
    "persistence",
    "clients",
    "permissions",
    "clock",
    "keys",
    "legacy keys",
    "index"
  ]

  # Of an instance with a near cache.
  @near_cache "near cache"

  # Thresholds of warnings: microseconds of latency, milliseconds of clock skew.
  @high_latency 10_000
  @clock_skew 2_000

  @doc "Returns all checks, given the options and the report of the native library."
  def all(options, {:ok, report}) do
    report = Map.put(report, :options, options)

    {checks, _blocker} =
      Enum.map_reduce(names(options), nil, fn name, blocker ->
        check = check(name, report) |> to_check(name, blocker || "server")
        {check, blocker || if(check.status == :error, do: name)}
      end)

    checks
  end

  def all(options, {:error, reason}) do
    {detail, advice} = Failure.explain(reason, Options.topology(options))
    failed_at("configuration", detail, advice)
  end

  defp names(%{near_cache: false}), do: @names
  defp names(_options), do: @names ++ [@near_cache]

  @doc "Returns all checks if one failed before the native library ran. Later checks are skipped."
  def failed_at(failed, detail, advice) do
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

  # The reply of a server may hold terminal escape sequences.
  defp printable(text), do: String.replace(text, ~r/[^[:print:]]/u, "?")

  # The result of a check as {status, detail} or {status, detail, advice}; nil if it did not run.

  defp check("library", _report) do
    {version, target} = Native.built()
    path = "#{Native.path()}.so"
    Application.load(:pow_redis_cache)

    case to_string(Application.spec(:pow_redis_cache, :vsn)) do
      ^version ->
        {:ok, "#{version} for #{target}, #{path}"}

      package ->
        {:warning, "#{version} for #{target}, #{path}, but the package is #{package}",
         "Run `mix deps.compile pow_redis_cache --force` and restart the app."}
    end
  end

  defp check("configuration", %{options: options}) do
    shown =
      Enum.map_join([:pool_size, :timeout, :connect_timeout, :index], ", ", fn name ->
        "#{name}: #{inspect(options[name])}"
      end)

    {:ok, "#{Options.topology(options)}, #{shown}"}
  end

  defp check(name, report) when name in ["endpoint", "DNS", "connection", "TLS", "login"] do
    ConnectReport.check(name, report)
  end

  defp check(name, report)
       when name in ["server", "role", "memory", "eviction", "persistence", "clients"] do
    ServerInfo.check(name, report)
  end

  defp check("latency", %{latency: {:ok, latency}}) do
    detail =
      "median #{ConnectReport.milliseconds(latency.median)}, slowest #{ConnectReport.milliseconds(latency.slowest)} of #{latency.pings} pings"

    if latency.median >= @high_latency,
      do: {:warning, detail, "Every call takes this long. Run app and Redis in the same region."},
      else: {:ok, detail}
  end

  defp check("latency", %{latency: {:error, reason}} = report), do: unknown(reason, report)

  defp check("permissions", %{denied: {:ok, denied}} = report) do
    Denied.check(denied, report.connect.user, report.options)
  end

  defp check("permissions", %{denied: {:error, reason}} = report),
    do: failure("could not be tested", reason, report)

  defp check("clock", %{clock_skew_ms: {:ok, skew}}) when abs(skew) >= @clock_skew do
    {:warning,
     "the server's clock is #{abs(skew)} ms #{if skew > 0, do: "ahead of", else: "behind"} this host's",
     "Run NTP on both. This package uses the server's clock, Pow's example backend the host's."}
  end

  defp check("clock", %{clock_skew_ms: {:ok, skew}}), do: {:ok, "#{skew} ms apart"}
  defp check("clock", %{clock_skew_ms: {:error, reason}} = report), do: unknown(reason, report)

  defp check(name, %{keyspace_stats: %{} = keyspace_stats})
       when name in ["keys", "legacy keys", "index"] do
    KeyspaceStats.check(name, keyspace_stats)
  end

  defp check(@near_cache, %{near_cache: near_cache} = report) when near_cache != nil do
    NearCache.check(near_cache, report)
  end

  defp check(_name, _report), do: nil
end
