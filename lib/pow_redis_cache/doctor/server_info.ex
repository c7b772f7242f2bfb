defmodule PowRedisCache.Doctor.ServerInfo do
  @moduledoc false
  # The checks that use INFO.

  import PowRedisCache.Doctor.Failure, only: [unknown: 2]

  alias PowRedisCache.Options

  # A warning if less than a tenth of the memory is left.
  @min_memory_left 10

  @not_reported "not reported by the server"

  @doc "Returns the result of a check, or `nil` if there is no INFO."
  def check("server", %{info: {:ok, %{mode: "sentinel"}}}) do
    {:error, "the server is a sentinel, which stores no sessions",
     "Use :sentinel instead of :url."}
  end

  def check("server", %{info: {:ok, info}, options: options}) do
    case {info.mode, Options.topology(options)} do
      {"cluster", topology} when topology != :cluster ->
        {:error, "#{info.version} is a cluster node", "Use :cluster instead of :url."}

      {mode, :cluster} when mode not in ["cluster", nil] ->
        {:error, "#{info.version} is not a cluster node", "Use :url instead of :cluster."}

      _ ->
        version(info.version)
    end
  end

  def check("server", %{info: {:error, reason}} = report), do: unknown(reason, report)

  def check("role", %{info: {:ok, %{role: "master"}}}), do: {:ok, "primary"}

  def check("role", %{info: {:ok, %{role: nil}}}),
    do: {:warning, @not_reported, "Make sure that :url points at a primary."}

  def check("role", %{info: {:ok, %{role: _replica}}, options: options}) do
    case Options.topology(options) do
      :standalone ->
        {:error, "read-only replica", "Point :url at the primary, or use :sentinel."}

      :sentinel ->
        {:error, "replica, although the sentinels report it as the primary",
         "Wait for the failover to finish. If it does not, check the logs of the sentinels."}

      :cluster ->
        {:ok, "replica; calls go to the primaries"}
    end
  end

  def check("memory", %{info: {:ok, %{used_memory: used, maxmemory: limit} = info}})
      when is_integer(used) and is_integer(limit) do
    detail = "#{megabytes(used)} of #{megabytes(limit)} used"

    advice = "Raise the server's maxmemory. Once it is reached, put/2 fails with :out_of_memory."

    cond do
      limit == 0 -> {:ok, "#{megabytes(used)} used, no limit"}
      # With eviction, full memory is normal. The eviction check warns about it.
      info.eviction_policy not in ["noeviction", nil] -> {:ok, detail}
      used >= limit -> {:error, detail, advice}
      limit - used < div(limit, @min_memory_left) -> {:warning, detail, advice}
      true -> {:ok, detail}
    end
  end

  def check("memory", %{info: {:ok, _info}}), do: {:ok, @not_reported}

  def check("eviction", %{info: {:ok, %{eviction_policy: nil}}}), do: {:ok, @not_reported}

  def check("eviction", %{info: {:ok, %{eviction_policy: "noeviction"}}}),
    do: {:ok, "noeviction"}

  def check("eviction", %{info: {:ok, %{eviction_policy: policy, maxmemory: 0}}}) do
    {:ok, "#{policy}, without effect because maxmemory is not set"}
  end

  def check("eviction", %{info: {:ok, %{eviction_policy: policy}}}) do
    {:warning,
     "#{policy}: when its memory is full, Redis evicts sessions, and users are logged out",
     "`CONFIG SET maxmemory-policy noeviction`, or set it at your provider."}
  end

  def check("persistence", %{info: {:ok, %{saves_succeed: false}}}) do
    {:error, "the last attempt to write to the disk failed",
     "Check the space on the disk, the permissions of the folder, and the log of Redis. Until it " <>
       "succeeds, Redis may refuse writes (MISCONF), and a restart may lose sessions."}
  end

  def check("persistence", %{info: {:ok, %{appends_to_file: true}}}),
    do: {:ok, "Redis appends writes to a file"}

  def check("persistence", %{info: {:ok, _info}, snapshots: {:ok, true}}),
    do: {:ok, "Redis saves snapshots"}

  def check("persistence", %{info: {:ok, _info}, snapshots: {:ok, false}}) do
    {:warning, "Redis keeps nothing on disk: after a restart, all users are logged out",
     "Set `appendonly yes` or `save` in the server's configuration, or enable persistence at your " <>
       "provider."}
  end

  def check("persistence", %{info: {:ok, _info}}), do: {:ok, @not_reported}

  def check("clients", %{
        info: {:ok, %{connected_clients: used, maxclients: limit}},
        options: options
      })
      when is_integer(used) and is_integer(limit) do
    detail = "#{used} of #{limit} connected, pool_size is #{options.pool_size}"

    if limit - used < options.pool_size,
      do:
        {:warning, detail,
         "Raise the server's maxclients, or lower :pool_size. During a deploy, old and new hosts are connected."},
      else: {:ok, detail}
  end

  def check("clients", %{info: {:ok, _info}}), do: {:ok, @not_reported}

  def check(_name, _report), do: nil

  defp version("Valkey " <> _ = version), do: {:ok, version}

  defp version("Redis " <> number = version) do
    case Integer.parse(number) do
      {major, _} when major < 7 ->
        {:error, "#{version} is too old: it does not support PEXPIRE with NX and GT",
         "Use Redis 7.0 or later, or Valkey."}

      _ ->
        {:ok, version}
    end
  end

  defp version(_unknown),
    do: {:warning, @not_reported, "Make sure that the server is Redis 7.0 or later, or Valkey."}

  defp megabytes(bytes), do: "#{Float.round(bytes / 1_048_576, 1)} MB"
end
