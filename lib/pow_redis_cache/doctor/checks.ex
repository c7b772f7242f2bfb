defmodule PowRedisCache.Doctor.Checks do
  @moduledoc false
  # What an examination found, in words: a check each, with what to do.

  alias PowRedisCache.{Error, Native, Server}
  alias PowRedisCache.Doctor.{Certificate, Check, Contents, Permissions}

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
  @days_left 14
  @tenth 10

  @doc "All checks, given the options and what the native library answered."
  def all(options, {:ok, findings}) do
    subject = Map.put(findings, :options, options)

    {checks, _blocker} =
      Enum.map_reduce(@names, nil, fn name, blocker ->
        check = check(name, subject) |> to_check(name, blocker || "server")
        {check, blocker || if(check.status == :error, do: name)}
      end)

    checks
  end

  def all(_options, {:error, reason}) do
    {detail, advice} = explain(reason)
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
    {version, target} = Native.library()
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

    {:ok, "#{Server.topology(options)}, #{shown}"}
  end

  defp check("location", %{location: {:error, reason}, options: options}) do
    what = %{
      standalone: "Nobody could tell where Redis is",
      sentinel: "No sentinel could tell where the master is",
      cluster: "Nobody could tell where the cluster is"
    }

    failed(what[Server.topology(options)], reason)
  end

  defp check("location", %{masters: {:error, reason}}) do
    failed("The node does not tell who has which slots", reason)
  end

  defp check("location", %{way: way} = subject) do
    address = way.address

    case {Server.topology(subject.options), subject} do
      {:standalone, _} ->
        {:ok, address}

      {:sentinel, %{options: options}} ->
        {:ok, "#{address}, which the sentinels call the master of #{options.sentinel.group}"}

      {:cluster, %{passed_over: [_ | _] = others}} ->
        {:warning, one_node(subject) <> "; #{Enum.join(others, ", ")} did not let us in",
         "Start these nodes, or take them out of :cluster."}

      {:cluster, _} ->
        {:ok, one_node(subject)}
    end
  end

  defp check("DNS", %{way: %{resolution: nil, address: address}}) do
    {:ok, "not needed, #{address} is a socket of this host"}
  end

  defp check("DNS", %{way: %{resolution: {:ok, found}}}) do
    {:ok, "#{Enum.join(found.addresses, ", ")} in #{milliseconds(found.microseconds)}"}
  end

  defp check("DNS", %{way: %{resolution: {:error, reason}} = way, options: options}) do
    host = String.replace(way.address, ~r/:\d+$/, "")

    what =
      case reason do
        {:timeout, _} -> "no answer about #{host} within #{options.connect_timeout} ms"
        _ -> "#{host} has no address"
      end

    {:error, what,
     "Correct the host in :url. `getent hosts #{host}` shows what this host knows of it."}
  end

  defp check("connection", %{way: %{connect: {:ok, took}, address: address}}) do
    {:ok, "to #{address} in #{milliseconds(took)}"}
  end

  defp check("connection", %{way: %{connect: {:error, {:timeout, _}}} = way, options: options}) do
    {:error, "no answer from #{way.address} within #{options.connect_timeout} ms",
     "Let the firewall, or the network's rules, pass this host to that port, or correct :url."}
  end

  defp check("connection", %{way: %{connect: {:error, _reason}, address: address}}) do
    {:error, "#{address} refuses connections, or cannot be reached",
     "Start Redis there, or correct host and port of :url. In a container, localhost is the container."}
  end

  defp check("TLS", %{way: %{handshake: nil}}), do: nil
  defp check("TLS", %{way: %{uses_tls: false}}), do: {:ok, "not used"}

  defp check("TLS", %{way: %{handshake: {:error, {reason, _}}}, options: options})
       when reason in [:timeout, :disconnected] do
    what = %{
      timeout: "no answer to the handshake within #{options.connect_timeout} ms",
      disconnected: "the server closed the connection in the handshake"
    }

    {:error, what[reason],
     "See whether the port of :url speaks TLS; where it does not, use `redis://` or `tls: false`."}
  end

  defp check("TLS", %{way: %{handshake: {:error, reason}, certificate: der}}) do
    with {:error, what, advice} <- failed("refused", reason) do
      {:error, what <> shown(Certificate.read(der)), advice}
    end
  end

  defp check("TLS", %{way: %{certificate: der}, options: %{verify: :verify_none}}) do
    {:warning, "not verified" <> shown(Certificate.read(der)),
     "Whoever is in the way can pose as Redis. Use verify: :verify_peer, with :cacertfile for an " <>
       "authority of your provider's own. Heroku offers none."}
  end

  defp check("TLS", %{way: %{certificate: der}}) do
    certificate = Certificate.read(der)
    found = "verified" <> shown(certificate)

    case days_left(certificate) do
      days when is_integer(days) and days < @days_left ->
        {:warning, found, "Renew it: it ends in #{days} days."}

      _ ->
        {:ok, found}
    end
  end

  defp check("login", %{way: %{login: {:ok, _}, user: user}}), do: {:ok, "as #{user}"}

  defp check("login", %{way: %{login: {:error, _reason}, database_refused: true}}) do
    {:error, "user and password are right, the database is refused",
     "Name a database that the server has (`databases` in its configuration), and that the user may " <>
       "SELECT, in :url or :database."}
  end

  defp check("login", %{way: %{login: {:error, {:disconnected, _}}}}) do
    {:error, "the server closed the connection",
     "See whether its `maxclients` is reached, and whether the port speaks TLS (`rediss://`)."}
  end

  defp check("login", %{way: %{login: {:error, {:timeout, _}}}, options: options}) do
    {:error, "no answer within #{options.connect_timeout} ms",
     "See whether the server stands still, and whether the port speaks TLS (`rediss://`)."}
  end

  defp check("login", %{way: %{login: {:error, {:server, %{code: "ERR"}}}, user: user}}) do
    {:error, "as #{user}: Redis answered with an error (ERR)",
     "Leave the password out of :url, if the server has none. Else its log may say more."}
  end

  defp check("login", %{way: %{login: {:error, reason}, user: user}}),
    do: failed("as #{user}", reason)

  defp check("server", %{info: {:ok, %{mode: "sentinel"}}}) do
    {:error, "it is a sentinel, which keeps no sessions", "Use :sentinel in place of :url."}
  end

  defp check("server", %{info: {:ok, info}, options: options}) do
    case {info.mode, Server.topology(options)} do
      {"cluster", topology} when topology != :cluster ->
        {:error, "#{info.version} is a node of a Cluster", "Use :cluster in place of :url."}

      {mode, :cluster} when mode not in ["cluster", nil] ->
        {:error, "#{info.version} is no node of a Cluster", "Use :url in place of :cluster."}

      _ ->
        version(info.version)
    end
  end

  defp check("server", %{info: {:error, reason}} = subject), do: not_told(reason, subject)

  defp check("role", %{info: {:ok, %{role: "master"}}}), do: {:ok, "master"}

  defp check("role", %{info: {:ok, %{role: nil}}}),
    do: {:warning, "the server does not tell", "Let :url name a master."}

  defp check("role", %{info: {:ok, %{role: _replica}}, options: options}) do
    case Server.topology(options) do
      :standalone ->
        {:error, "replica: it takes no writes", "Let :url name the master, or use :sentinel."}

      :sentinel ->
        {:error, "replica, which the sentinels take for a master",
         "Wait for the failover to end, and look at the sentinels' log if it does not."}

      :cluster ->
        {:ok, "replica; calls go to the masters"}
    end
  end

  defp check("latency", %{latency: {:ok, latency}}) do
    found =
      "median #{milliseconds(latency.median)}, slowest #{milliseconds(latency.slowest)} of #{latency.pings} pings"

    if latency.median >= @slow,
      do:
        {:warning, found, "Each call takes that long: let app and Redis run in the same region."},
      else: {:ok, found}
  end

  defp check("latency", %{latency: {:error, reason}} = subject), do: not_told(reason, subject)

  defp check("memory", %{info: {:ok, %{used_memory: used, maxmemory: limit}}})
       when is_integer(used) and is_integer(limit) do
    found = "#{megabytes(used)} of #{megabytes(limit)} used"

    advice =
      "Raise the server's maxmemory: when it is reached, put/2 raises :out_of_memory or sessions go."

    cond do
      limit == 0 -> {:ok, "#{megabytes(used)} used, without a limit"}
      used >= limit -> {:error, found, advice}
      limit - used < div(limit, @tenth) -> {:warning, found, advice}
      true -> {:ok, found}
    end
  end

  defp check("memory", %{info: {:ok, _info}}), do: {:ok, "the server does not tell"}

  defp check("eviction", %{info: {:ok, %{eviction_policy: nil}}}),
    do: {:ok, "the server does not tell"}

  defp check("eviction", %{info: {:ok, %{eviction_policy: "noeviction"}}}),
    do: {:ok, "noeviction"}

  defp check("eviction", %{info: {:ok, %{eviction_policy: policy, maxmemory: 0}}}) do
    {:ok, "#{policy}, without effect as there is no maxmemory"}
  end

  defp check("eviction", %{info: {:ok, %{eviction_policy: policy}}}) do
    {:warning,
     "#{policy}: when its memory is full, Redis drops sessions, and people are logged out",
     "`CONFIG SET maxmemory-policy noeviction`, or your provider's setting of that name."}
  end

  defp check("clients", %{
         info: {:ok, %{connected_clients: used, maxclients: most}},
         options: options
       })
       when is_integer(used) and is_integer(most) do
    found = "#{used} of #{most} connected, pool_size is #{options.pool_size}"

    if most - used < options.pool_size,
      do:
        {:warning, found,
         "Raise the server's maxclients, or lower :pool_size: in a deploy, old and new hosts are connected."},
      else: {:ok, found}
  end

  defp check("clients", %{info: {:ok, _info}}), do: {:ok, "the server does not tell"}

  defp check("permissions", %{refusals: {:ok, refusals}} = subject) do
    Permissions.check(refusals, subject.way.user, Server.topology(subject.options))
  end

  defp check("permissions", %{refusals: {:error, reason}}),
    do: failed("could not be tried", reason)

  defp check("clock", %{skew_ms: {:ok, skew}}) when abs(skew) >= @skewed do
    {:warning,
     "the server's is #{abs(skew)} ms #{if skew > 0, do: "ahead of", else: "behind"} this host's",
     "Run NTP on both. This package goes by the server's clock, the pasted module by the host's."}
  end

  defp check("clock", %{skew_ms: {:ok, skew}}), do: {:ok, "#{skew} ms apart"}
  defp check("clock", %{skew_ms: {:error, reason}} = subject), do: not_told(reason, subject)

  defp check(name, %{census: %{} = census, options: options})
       when name in ["keys", "atoms", "index"] do
    Contents.check(name, census, options)
  end

  defp check(_name, _subject), do: nil

  defp one_node(%{way: way, masters: masters}) do
    of = with {:ok, number} <- masters, do: " of a cluster of #{number} masters", else: (_ -> "")
    "#{way.address}, one node#{of}: what follows is about this node"
  end

  defp version("Valkey " <> _ = version), do: {:ok, version}

  defp version("Redis " <> number = version) do
    case Integer.parse(number) do
      {major, _} when major < 7 ->
        {:error, "#{version} is too old: it lacks PEXPIRE with NX and GT",
         "Use Redis 7.0 or later, or Valkey."}

      _ ->
        {:ok, version}
    end
  end

  defp version(_unknown),
    do: {:warning, "the server does not tell its version", "It has to be Redis 7.0 or later."}

  # What a user may lack the permission to ask, and is not needed.
  defp not_told({:server, %{code: "NOPERM"}}, %{way: way}) do
    {:warning, "not known: the user may not ask",
     "To see this, let it: `ACL SETUSER #{way.user} +info +ping +time`"}
  end

  defp not_told(reason, _subject), do: failed("not known", reason)

  defp failed(what, reason) do
    {means, advice} = explain(reason)
    {:error, "#{what}: #{means}", advice}
  end

  # The message of an error says what it means, and behind the first full stop what to do.
  defp explain(reason) do
    message = Exception.message(Error.from_native(:doctor, reason))

    case message
         |> String.replace_prefix("doctor failed: ", "")
         |> String.split(". ", parts: 2) do
      [means, advice] -> {means, advice}
      [means] -> {means, "See what the server's log says of it."}
    end
  end

  defp shown(nil), do: ""

  defp shown(certificate) do
    "; issued by #{certificate.issuer}, expires #{DateTime.to_date(certificate.expires)}"
  end

  defp days_left(nil), do: nil

  defp days_left(certificate),
    do: DateTime.diff(certificate.expires, DateTime.utc_now()) |> div(86_400)

  defp milliseconds(microseconds), do: "#{Float.round(microseconds / 1_000, 2)} ms"
  defp megabytes(bytes), do: "#{Float.round(bytes / 1_048_576, 1)} MB"
end
