defmodule PowRedisCache.PowBeforeSend do
  @moduledoc "What the stand-ins of Pow's plugs do when the response is sent, each under a key of its own."

  alias Plug.Conn

  def put(conn, key, callback) do
    Conn.put_private(conn, key, (conn.private[key] || []) ++ [callback])
  end

  @doc "Runs what `put/3` is going to add, in that order."
  def register(conn, key) do
    Conn.register_before_send(conn, fn conn ->
      Enum.reduce(conn.private[key] || [], conn, & &1.(&2))
    end)
  end

  @doc "Releases a lock of this node and those connected to it."
  def unlock(conn, lock) do
    :global.del_lock(lock, [node() | Node.list()])
    conn
  end
end
