defmodule PowRedisCache.Bench.Memory do
  @moduledoc "Measures the memory of waiting calls and idle connections, in bytes."

  alias PowRedisCache.{RedisClient, RedisServer, Wait}
  alias PowRedisCache.Bench.{Client, Dataset, Counters}

  @callers 10_000
  @connections 64

  def run do
    names = Enum.reject(Client.names(), &(&1 == "ets" or String.contains?(&1, "v1")))

    %{
      per_waiting_call: Map.new(names, &{&1, waiting(&1)}),
      per_idle_connection: idle()
    }
  end

  # The memory of a caller that waits for a suspended server: its process and everything else that the VM
  # allocates for the call. Resident memory is that of the whole VM.
  defp waiting(name) do
    server = RedisServer.start!()
    redis_client = RedisClient.connect!(server.port)
    pid = Counters.info(redis_client, "server")["process_id"]
    [client] = Client.start([name], server.port, 0, [])
    :not_found = client.get.(Dataset.session(1, 1))
    parked = spawn_parked(fn -> :ok end)
    signal("STOP", pid)
    before = memory()
    callers = spawn_parked(fn -> client.get.(Dataset.session(1, 1)) end)
    Enum.each(callers, &send(&1, :go))
    Wait.until(fn -> Enum.all?(callers, &waits?/1) end)
    waiting = memory()
    signal("CONT", pid)
    Wait.until(fn -> not Enum.any?(callers, &Process.alive?/1) end)
    Enum.each(parked, &send(&1, :go))
    Client.stop([client])
    RedisServer.stop(server)
    Map.new(waiting, fn {kind, bytes} -> {kind, (bytes - before[kind]) / @callers} end)
  end

  defp spawn_parked(function) do
    for _caller <- 1..@callers do
      spawn(fn ->
        receive(do: (:go -> function.()))
      end)
    end
  end

  defp waits?(pid) do
    case Process.info(pid, [:status, :message_queue_len]) do
      [status: :waiting, message_queue_len: 0] -> true
      _other -> false
    end
  end

  defp memory do
    :erlang.garbage_collect()
    %{vm: :erlang.memory(:total), resident: Counters.resident_bytes()}
  end

  defp signal(name, pid), do: {_output, 0} = System.cmd("kill", ["-#{name}", pid])

  # The memory of one more connection, in this VM and in Redis.
  defp idle do
    server = RedisServer.start!()
    client = RedisClient.connect!(server.port)
    [few, many] = for size <- [1, 1 + @connections], do: resident_with(server, client, size)

    RedisServer.stop(server)

    %{
      resident: (many.resident - few.resident) / @connections,
      redis: (many.redis - few.redis) / @connections
    }
  end

  defp resident_with(server, client, size) do
    before = Counters.resident_bytes()

    {:ok, pid} =
      PowRedisCache.start_link(name: __MODULE__, url: RedisServer.url(server), pool_size: size)

    Wait.until(fn -> connections(client) == size + 1 end)
    resident = Counters.resident_bytes() - before

    redis = redis_bytes(client)
    GenServer.stop(pid)
    Wait.until(fn -> connections(client) == 1 end)
    %{resident: resident, redis: redis}
  end

  defp redis_bytes(client) do
    clients = RedisClient.command!(client, ["CLIENT", "LIST"])

    for([_, bytes] <- Regex.scan(~r/tot-mem=(\d+)/, clients), do: String.to_integer(bytes))
    |> Enum.sum()
  end

  defp connections(client) do
    client |> Counters.info("clients") |> Map.fetch!("connected_clients") |> String.to_integer()
  end
end
