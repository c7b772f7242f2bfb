defmodule PowRedisCache.Error.Connection do
  @moduledoc false
  # The messages of connections that fail. The advice fits the topology and the origin of the address.

  @doc "The message of `:timeout` or `:disconnected`."
  def explain(:timeout, %{address: address} = detail) do
    "no reply from #{address} within `:connect_timeout`. #{capitalize(advice(detail))}"
  end

  def explain(:timeout, _detail) do
    "no reply from Redis within `:timeout`. Is the server overloaded or the network slow?"
  end

  def explain(:disconnected, %{address: address} = detail) do
    "Redis is unreachable. #{what(detail[:cause], address)}: #{advice(detail)}"
  end

  def explain(:disconnected, %{topology: :sentinel}) do
    "Redis is unreachable. Check that the primary and the sentinels are running"
  end

  def explain(:disconnected, %{topology: :cluster}) do
    "Redis is unreachable. Check that the nodes of the cluster are running"
  end

  def explain(:disconnected, _detail) do
    "Redis is unreachable. Check that it is running and that `:url` is correct"
  end

  @doc "What to do if a server cannot be used at its address, without a full stop."
  def advice(%{topology: :sentinel, announced: true}) do
    "check that this host can reach the address that the sentinels report. If it cannot, set " <>
      "`replica-announce-ip` of Redis and `sentinel announce-ip` to addresses that it can reach"
  end

  def advice(%{topology: :cluster, announced: true}) do
    "check that this host can reach the address that the cluster announces. If it cannot, set " <>
      "`cluster-announce-ip` or `cluster-announce-hostname` of the node"
  end

  def advice(%{cause: :connection_closed} = detail) do
    "check whether the port in #{option(detail)} uses TLS (`rediss://`), and the log of Redis"
  end

  def advice(%{cause: :not_permitted} = detail) do
    "check the permissions of the socket in #{option(detail)}, or the firewall of this host"
  end

  def advice(%{cause: :unknown_host} = detail), do: "correct the host in #{option(detail)}"

  def advice(detail), do: "check that it is running and that #{option(detail)} is correct"

  @doc "The option that has the address."
  def option(%{topology: :sentinel}), do: "`:sentinel`"
  def option(%{topology: :cluster}), do: "`:cluster`"
  def option(_detail), do: "`:url`"

  @doc "What happened at an address."
  def what(:refused, address), do: "#{address} refused the connection"
  def what(:no_route, address), do: "There is no route to #{address}"
  def what(:unknown_host, address), do: "The host name of #{address} has no address"
  def what(:not_permitted, address), do: "This process may not connect to #{address}"
  def what(:no_such_socket, address), do: "#{address} does not exist"
  def what(:connection_closed, address), do: "#{address} closed the connection"
  def what(_unknown, address), do: "#{address} does not answer"

  defp capitalize(<<first::utf8, rest::binary>>), do: String.upcase(<<first::utf8>>) <> rest
end
