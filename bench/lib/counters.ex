defmodule PowRedisCache.Bench.Counters do
  @moduledoc "Reads the counters of costs: the CPU time of this VM and of Redis, Redis's commands, and memory."

  alias PowRedisCache.RedisClient

  # Linux counts the CPU time of a process in hundredths of a second.
  @microseconds_per_tick 10_000

  # What connections and replication take of a Redis server's memory.
  @buffers ~w(mem_clients_normal mem_clients_slaves mem_replication_backlog mem_cluster_links)
  # In milliseconds. Hash tables that grow are moved in the background, and then shrink the memory.
  @steady 2_000

  @doc "CPU time of this VM and of a Redis server, in microseconds, and the commands it has served."
  def read(client) do
    cpu = info(client, "cpu")
    # The last command, so that each reading adds the same number of commands.
    stats = info(client, "stats")

    %{
      vm_cpu_us: vm_cpu_us(),
      redis_cpu_us: seconds(cpu["used_cpu_user"]) + seconds(cpu["used_cpu_sys"]),
      # Without the two commands of each reading.
      commands: String.to_integer(stats["total_commands_processed"]) - own_commands()
    }
  end

  @doc "A section of `INFO`."
  def info(client, section) do
    for line <- client |> RedisClient.command!(["INFO", section]) |> String.split("\r\n"),
        [name, value] <- [String.split(line, ":", parts: 2)],
        into: %{},
        do: {name, value}
  end

  @doc "The memory of a Redis server's data, in bytes, without connections. Waits until it is steady."
  def data_bytes(client), do: data_bytes(client, used_bytes(client))

  defp data_bytes(client, bytes) do
    Process.sleep(@steady)

    case used_bytes(client) do
      ^bytes -> bytes
      changed -> data_bytes(client, changed)
    end
  end

  defp used_bytes(client) do
    memory = info(client, "memory")
    [used | buffers] = for name <- ["used_memory" | @buffers], do: bytes(memory[name])
    used - Enum.sum(buffers)
  end

  # A release of Redis may lack a field.
  defp bytes(nil), do: 0
  defp bytes(text), do: String.to_integer(text)

  @doc "Resident memory of this VM, in bytes."
  def resident_bytes do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1024
  end

  # The number of commands that this process has sent for readings.
  defp own_commands do
    sent = Process.get(__MODULE__, 0) + 2
    Process.put(__MODULE__, sent)
    sent
  end

  defp vm_cpu_us do
    # The fields after the name of the program, which may contain spaces.
    [_, fields] = "/proc/self/stat" |> File.read!() |> String.split(") ", parts: 2)
    fields = String.split(fields)
    ticks = String.to_integer(Enum.at(fields, 11)) + String.to_integer(Enum.at(fields, 12))
    ticks * @microseconds_per_tick
  end

  defp seconds(text), do: round(String.to_float(text) * 1_000_000)
end
