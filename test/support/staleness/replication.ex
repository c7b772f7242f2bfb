defmodule PowRedisCache.Staleness.Replication do
  @moduledoc "The replication link of Redis servers."

  alias PowRedisCache.{RedisServer, Wait}

  @doc """
  Waits until replicas have applied what their primary has acknowledged so far. Since Redis 7.2, `WAIT` is no
  help: it only waits for what the same client wrote.
  """
  def await(primary, replicas) do
    acknowledged = Wait.until(fn -> offset(primary, "master_repl_offset") end)
    for replica <- replicas, do: Wait.until(fn -> applied?(replica, primary, acknowledged) end)
    :ok
  end

  @doc "Cuts the link of replicas. They fail to log in to their primary until it is healed."
  def cut(replicas) do
    for replica <- replicas do
      log_in(replica, "nobody", "wrong")
      RedisServer.command!(replica, ["CLIENT", "KILL", "TYPE", "master"])

      Wait.until(fn ->
        RedisServer.info(replica, "replication", "master_link_status") == "down"
      end)
    end

    :ok
  end

  @doc "Heals the link of replicas."
  def heal(replicas) do
    for replica <- replicas, do: log_in(replica, "", "")
    :ok
  end

  defp applied?(replica, primary, acknowledged) do
    with true <- RedisServer.info(replica, "replication", "master_port") == "#{primary.port}",
         "up" <- RedisServer.info(replica, "replication", "master_link_status"),
         applied when is_integer(applied) <- offset(replica, "slave_repl_offset") do
      applied >= acknowledged
    else
      _other -> false
    end
  end

  # `nil` if the server does not reply.
  defp offset(server, field) do
    with offset when is_binary(offset) <- RedisServer.info(server, "replication", field),
         do: String.to_integer(offset)
  end

  defp log_in(replica, user, password) do
    "OK" = RedisServer.command!(replica, ["CONFIG", "SET", "masteruser", user])
    "OK" = RedisServer.command!(replica, ["CONFIG", "SET", "masterauth", password])
  end
end
