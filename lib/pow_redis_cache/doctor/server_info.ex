defmodule PowRedisCache.Doctor.ServerInfo do
  @moduledoc false
  # What a server says of itself.

  import PowRedisCache.Doctor.Failure, only: [not_told: 2]

  alias PowRedisCache.Options

  # Less than this part of the memory left is a warning.
  @tenth 10

  @doc "A check of what it says; `nil` where it was not asked, or does not tell."
  def check("server", %{info: {:ok, %{mode: "sentinel"}}}) do
    {:error, "it is a sentinel, which keeps no sessions", "Use :sentinel in place of :url."}
  end

  def check("server", %{info: {:ok, info}, options: options}) do
    case {info.mode, Options.topology(options)} do
      {"cluster", topology} when topology != :cluster ->
        {:error, "#{info.version} is a node of a Cluster", "Use :cluster in place of :url."}

      {mode, :cluster} when mode not in ["cluster", nil] ->
        {:error, "#{info.version} is no node of a Cluster", "Use :url in place of :cluster."}

      _ ->
        version(info.version)
    end
  end

  def check("server", %{info: {:error, reason}} = subject), do: not_told(reason, subject)

  def check("role", %{info: {:ok, %{role: "master"}}}), do: {:ok, "master"}

  def check("role", %{info: {:ok, %{role: nil}}}),
    do: {:warning, "the server does not tell", "Let :url name a master."}

  def check("role", %{info: {:ok, %{role: _replica}}, options: options}) do
    case Options.topology(options) do
      :standalone ->
        {:error, "replica: it takes no writes", "Let :url name the master, or use :sentinel."}

      :sentinel ->
        {:error, "replica, which the sentinels take for a master",
         "Wait for the failover to end, and look at the sentinels' log if it does not."}

      :cluster ->
        {:ok, "replica; calls go to the masters"}
    end
  end

  def check("memory", %{info: {:ok, %{used_memory: used, maxmemory: limit} = info}})
      when is_integer(used) and is_integer(limit) do
    found = "#{megabytes(used)} of #{megabytes(limit)} used"

    advice = "Raise the server's maxmemory: when it is reached, put/2 raises :out_of_memory."

    cond do
      limit == 0 -> {:ok, "#{megabytes(used)} used, without a limit"}
      # Where Redis makes room, it is always full; that is another check.
      info.eviction_policy not in ["noeviction", nil] -> {:ok, found}
      used >= limit -> {:error, found, advice}
      limit - used < div(limit, @tenth) -> {:warning, found, advice}
      true -> {:ok, found}
    end
  end

  def check("memory", %{info: {:ok, _info}}), do: {:ok, "the server does not tell"}

  def check("eviction", %{info: {:ok, %{eviction_policy: nil}}}),
    do: {:ok, "the server does not tell"}

  def check("eviction", %{info: {:ok, %{eviction_policy: "noeviction"}}}),
    do: {:ok, "noeviction"}

  def check("eviction", %{info: {:ok, %{eviction_policy: policy, maxmemory: 0}}}) do
    {:ok, "#{policy}, without effect as there is no maxmemory"}
  end

  def check("eviction", %{info: {:ok, %{eviction_policy: policy}}}) do
    {:warning,
     "#{policy}: when its memory is full, Redis drops sessions, and people are logged out",
     "`CONFIG SET maxmemory-policy noeviction`, or your provider's setting of that name."}
  end

  def check("clients", %{
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

  def check("clients", %{info: {:ok, _info}}), do: {:ok, "the server does not tell"}

  def check(_name, _subject), do: nil

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

  defp megabytes(bytes), do: "#{Float.round(bytes / 1_048_576, 1)} MB"
end
