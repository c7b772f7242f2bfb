defmodule PowRedisCache.Staleness.Replication do
  @moduledoc "The replication link of Redis servers."

  alias PowRedisCache.{RedisClient, RedisServer, Wait}

  @doc "Waits until that many replicas have what their primary has acknowledged so far."
  def await(primary, replicas) do
    client = RedisClient.connect!(primary.port)

    Wait.until(fn ->
      {:ok, [_written, reached]} =
        RedisClient.pipeline(client, [["PUBLISH", "replicated", ""], ["WAIT", replicas, 1_000]])

      reached >= replicas
    end)

    RedisClient.close(client)
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

  defp log_in(replica, user, password) do
    "OK" = RedisServer.command!(replica, ["CONFIG", "SET", "masteruser", user])
    "OK" = RedisServer.command!(replica, ["CONFIG", "SET", "masterauth", password])
  end
end
