defmodule PowRedisCache.Error.Reply do
  @moduledoc false
  # The messages of error replies: what happened, then what to do, then what Redis said.

  alias PowRedisCache.Commands
  alias PowRedisCache.Error.Connection

  @reasons %{
    "OOM" => :out_of_memory,
    "READONLY" => :read_only,
    "NOAUTH" => :unauthenticated,
    "WRONGPASS" => :unauthenticated,
    "NOPERM" => :not_permitted,
    "WRONGTYPE" => :wrong_type
  }

  # Replies with the generic code ERR, by a part of their line.
  @generic [
    {"max number of clients", :max_clients},
    {"invalid password", :wrong_password},
    {"operation not permitted", :wrong_password},
    {"Protocol error: unauthenticated", :wrong_password},
    {"without any password configured", :no_password},
    {"no password is set", :no_password},
    {"DB index is out of range", :no_database},
    {"invalid DB index", :no_database},
    {"SELECT is not allowed in cluster mode", :cluster_database},
    {"cluster support disabled", :no_cluster},
    {"unknown command", :unknown_command},
    {"Protocol error: invalid bulk length", :too_large},
    {"Protocol error: invalid multibulk length", :too_large}
  ]

  @doc "The reason of an error reply."
  def reason(code, reply) do
    case kind(code, reply) do
      :wrong_password -> :unauthenticated
      _ -> Map.get(@reasons, code, :server)
    end
  end

  @doc "The message of an error reply."
  def explain(reason, code, reply, detail) do
    text =
      case {reason, kind(code, reply)} do
        {:server, nil} -> "Redis returned an error (#{code})"
        {:server, kind} -> text(kind, code, reply, detail)
        {reason, _kind} -> text(reason, code, reply, detail)
      end

    text <> said(reply, detail)
  end

  # What is known of a reply without a reason of its own.
  defp kind("ERR", reply) when is_binary(reply) do
    Enum.find_value(@generic, fn {part, kind} -> if String.contains?(reply, part), do: kind end)
  end

  defp kind(code, _reply)
       when code in ~w(MISCONF NOREPLICAS BUSY LOADING MASTERDOWN CLUSTERDOWN TRYAGAIN MOVED ASK
                       DENIED NOPROTO),
       do: code

  defp kind(_code, _reply), do: nil

  defp said(nil, _detail), do: ""
  defp said(reply, detail), do: ". #{detail[:address] || "Redis"} said: \"#{reply}\""

  defp text(:out_of_memory, _code, _reply, _detail) do
    "Redis is out of memory (OOM). Raise its `maxmemory`"
  end

  defp text(:read_only, _code, _reply, detail) do
    "the server is a read-only replica (READONLY). #{primary(detail)}"
  end

  defp text(:unauthenticated, code, _reply, detail) do
    "Redis rejected the username or password (#{code}). Check the credentials in " <>
      credentials(detail)
  end

  defp text(:not_permitted, _code, _reply, _detail) do
    {names, [last]} = Enum.split(Commands.names(), -1)

    "the Redis user lacks a permission (NOPERM). Grant it access to the keys and to the commands " <>
      "#{Enum.join(names, ", ")} and #{last}. A database other than 0 needs SELECT as well. " <>
      "Reseal needs EVAL as well"
  end

  defp text(:wrong_type, _code, _reply, _detail) do
    "the key or index set holds a value of another type (WRONGTYPE). Use a separate database for " <>
      "sessions"
  end

  defp text("MISCONF", _code, _reply, _detail) do
    "Redis cannot write to its disk, and refuses writes (MISCONF). Check the space on the disk, the " <>
      "permissions of the folder, and the log of Redis"
  end

  defp text("NOREPLICAS", _code, _reply, _detail) do
    "Redis has too few replicas, and refuses writes (NOREPLICAS). Start the replicas, or lower " <>
      "`min-replicas-to-write`"
  end

  defp text("BUSY", _code, _reply, _detail) do
    "Redis is busy running a script (BUSY). Wait until it ends, or end it with `SCRIPT KILL`"
  end

  defp text("LOADING", _code, _reply, _detail) do
    "Redis is loading its data (LOADING). Wait until it has finished"
  end

  defp text("MASTERDOWN", _code, _reply, detail) do
    "the server is a replica without a connection to its primary (MASTERDOWN). #{primary(detail)}"
  end

  defp text("CLUSTERDOWN", _code, _reply, _detail) do
    "some slots of the cluster have no primary (CLUSTERDOWN). Check that its nodes are running, with " <>
      "`CLUSTER INFO`"
  end

  defp text("TRYAGAIN", _code, _reply, _detail) do
    "slots of the cluster are being moved (TRYAGAIN). Wait until that has finished"
  end

  defp text(code, _code, _reply, %{topology: :cluster}) when code in ["MOVED", "ASK"] do
    "the nodes of the cluster redirect to each other (#{code}). Check `CLUSTER NODES`"
  end

  defp text(code, _code, _reply, detail) when code in ["MOVED", "ASK"] do
    "the server is a node of a cluster (#{code}). Use `:cluster` instead of " <>
      Connection.option(detail)
  end

  defp text("DENIED", _code, _reply, _detail) do
    "Redis is in protected mode: it accepts connections from its own host only (DENIED). Set a " <>
      "password for it (`requirepass`), or `protected-mode no` if its network is private"
  end

  defp text("NOPROTO", _code, _reply, _detail) do
    "the server does not support the version of the protocol (NOPROTO). Use Redis 7.0 or later, or " <>
      "Valkey"
  end

  defp text(:max_clients, _code, _reply, _detail) do
    "Redis has as many clients as it accepts. Raise its `maxclients`, or lower `:pool_size`"
  end

  defp text(:no_password, _code, _reply, detail) do
    "the server has no password, but one was sent. Remove the password from " <>
      "#{Connection.option(detail)} and `:password`"
  end

  defp text(:no_database, _code, _reply, detail) do
    "the server has no such database. Set the database in #{Connection.option(detail)} or " <>
      "`:database` to one that exists (`databases` in the server's configuration)"
  end

  defp text(:cluster_database, _code, _reply, detail) do
    "a cluster has only database 0. Remove the database from #{Connection.option(detail)} and " <>
      "`:database`"
  end

  defp text(:no_cluster, _code, _reply, _detail) do
    "the server is not a node of a cluster. Use `:url` instead of `:cluster`"
  end

  defp text(:unknown_command, _code, reply, _detail) do
    command =
      case Regex.run(~r/unknown command ['"`]([A-Za-z|]+)['"`]/, reply) do
        [_, name] -> "the command #{String.upcase(name)}"
        nil -> "a command"
      end

    "the server does not know #{command}. Remove it from `rename-command` in the server's " <>
      "configuration, or use Redis 7.0 or later, or Valkey"
  end

  defp text(:too_large, _code, _reply, _detail) do
    "the value is larger than Redis accepts. Store less in the session, or raise its " <>
      "`proto-max-bulk-len`"
  end

  defp primary(%{topology: :sentinel}) do
    "Wait until the failover has finished. If it does not, check the logs of the sentinels"
  end

  defp primary(%{topology: :cluster}) do
    "Wait until the failover has finished. If it does not, check `CLUSTER NODES`"
  end

  defp primary(_detail), do: "Point `:url` at the primary"

  defp credentials(%{topology: :sentinel, address: _, announced: false}) do
    "`:sentinel`: they are those of the sentinels"
  end

  defp credentials(%{topology: :sentinel}), do: "`:username` and `:password`"
  defp credentials(detail), do: "#{Connection.option(detail)}, `:username` and `:password`"
end
