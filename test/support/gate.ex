defmodule PowRedisCache.Gate do
  @moduledoc """
  A gate for requests in any VM: they stop at it until all have arrived, and then go on together.
  """

  @deadline 60_000

  @doc "Opens a gate. Returns its port."
  def new! do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, backlog: 64])
    {:ok, port} = :inet.port(listener)
    {listener, port}
  end

  @doc "The header of a request that stops at the gate, at a place that its server knows."
  def header({_listener, port}, place), do: {"x-gate", "#{place} #{port}"}

  @doc "Waits until this many requests have arrived. Returns them."
  def arrived({listener, _port}, number) do
    for _request <- 1..number do
      {:ok, socket} = :gen_tcp.accept(listener, @deadline)
      socket
    end
  end

  @doc "Lets requests go on."
  def let_go(requests), do: Enum.each(requests, &:gen_tcp.close/1)

  @doc "Lets the processes of requests crash."
  def crash(requests), do: Enum.each(requests, &:gen_tcp.send(&1, "crash"))

  @doc "Stops at the gate of a request's header, if it is for this place."
  def stop_at(place, {"x-gate", header}) do
    with [^place, port] <- String.split(header) do
      {:ok, socket} = :gen_tcp.connect(~c"127.0.0.1", String.to_integer(port), active: false)

      case :gen_tcp.recv(socket, 0, @deadline) do
        {:error, :closed} -> :ok
        {:ok, _crash} -> exit(:shutdown)
      end
    end

    :ok
  end

  def stop_at(_place, nil), do: :ok
end
