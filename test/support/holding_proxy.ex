defmodule PowRedisCache.HoldingProxy do
  @moduledoc """
  A TCP proxy in front of a Redis server that behaves as a bad network does. For each connection and
  direction it passes bytes, holds them back to deliver them later, or drops them.

  A connection that the client has closed stays open to the server while bytes for the server are held:
  the server receives them when they are passed, as it does from a network that delivers late.

  The functions return when the change is in effect. They concern the connections that exist, and with
  `new_connections/2` those that come. Options:

    * `:direction` - `:to_server`, `:to_client` or `:both` (default);
    * `:connections` - the numbers of connections, instead of all.
  """

  use GenServer

  alias PowRedisCache.HoldingProxy.Connection

  defstruct [:pid, :port]

  @type t :: %__MODULE__{pid: pid(), port: :inet.port_number()}
  @type mode :: :pass | :hold | :drop

  @doc """
  Starts a proxy that ends with the calling process. With `:rewrite`, a function from a command and the
  bytes of its reply to the bytes that the client gets, connections must be well-formed.
  """
  @spec start!(:inet.port_number(), keyword()) :: t()
  def start!(target, options \\ []) do
    {:ok, pid} = GenServer.start_link(__MODULE__, {target, options})
    %__MODULE__{pid: pid, port: GenServer.call(pid, :port)}
  end

  @doc "The URL to connect through the proxy."
  def url(proxy), do: "redis://127.0.0.1:#{proxy.port}"

  @doc "The numbers of the connections that either side has open, counted from 1."
  @spec connections(t()) :: [pos_integer()]
  def connections(proxy), do: proxy |> open() |> Enum.map(&elem(&1, 0)) |> Enum.sort()

  @doc "Passes bytes, first those that were held."
  def pass(proxy, options \\ []), do: set_mode(proxy, :pass, options)

  @doc "Holds bytes back."
  def hold(proxy, options \\ []), do: set_mode(proxy, :hold, options)

  @doc "Drops bytes, also those that are held."
  def drop(proxy, options \\ []), do: set_mode(proxy, :drop, options)

  @doc """
  Resets the connection to the `:client`, the `:server` or `:both`. Held bytes for the other side are
  still delivered when they are passed.
  """
  def cut(proxy, side, options \\ []) do
    for connection <- selected(proxy, options), do: Connection.cut(connection, side)
    :ok
  end

  @doc "Delays bytes by that many milliseconds, also on new connections."
  def delay(proxy, milliseconds) do
    GenServer.call(proxy.pid, {:delay, milliseconds})
    for connection <- selected(proxy, []), do: Connection.delay(connection, milliseconds)
    :ok
  end

  @doc "What new connections do: a mode for their bytes, or `:refuse`."
  @spec new_connections(t(), mode() | :refuse) :: :ok
  def new_connections(proxy, mode), do: GenServer.call(proxy.pid, {:new_connections, mode})

  @doc "Passes the bytes of all connections, also of new ones, without a delay."
  def heal(proxy) do
    new_connections(proxy, :pass)
    delay(proxy, 0)
    pass(proxy)
  end

  defp set_mode(proxy, mode, options) do
    directions =
      case Keyword.get(options, :direction, :both) do
        :both -> [:to_server, :to_client]
        direction -> [direction]
      end

    for connection <- selected(proxy, options),
        direction <- directions,
        do: Connection.set_mode(connection, direction, mode)

    :ok
  end

  defp selected(proxy, options) do
    numbers = Keyword.get(options, :connections)
    for {number, pid} <- open(proxy), numbers == nil or number in numbers, do: pid
  end

  defp open(proxy), do: GenServer.call(proxy.pid, :open)

  @impl true
  def init({target, options}) do
    Process.flag(:trap_exit, true)

    {:ok, listener} =
      :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false, backlog: 1_024])

    proxy = self()
    spawn_link(fn -> accept(listener, proxy, 1) end)

    {:ok,
     %{
       listener: listener,
       target: target,
       rewrite: options[:rewrite],
       new: :pass,
       delay: 0,
       open: %{}
     }}
  end

  @impl true
  def handle_call(:port, _from, state) do
    {:ok, port} = :inet.port(state.listener)
    {:reply, port, state}
  end

  def handle_call(:open, _from, state), do: {:reply, Map.to_list(state.open), state}
  def handle_call({:delay, delay}, _from, state), do: {:reply, :ok, %{state | delay: delay}}
  def handle_call({:new_connections, mode}, _from, state), do: {:reply, :ok, %{state | new: mode}}

  def handle_call({:accepted, number, client}, _from, state) do
    arguments = Map.take(state, [:target, :rewrite, :new, :delay])
    {:ok, pid} = Connection.start_link(Map.put(arguments, :client, client))
    {:reply, pid, put_in(state.open[number], pid)}
  end

  @impl true
  def handle_info({:EXIT, ended, _reason}, state) do
    {:noreply, %{state | open: Map.reject(state.open, fn {_number, pid} -> pid == ended end)}}
  end

  defp accept(listener, proxy, number) do
    with {:ok, client} <- :gen_tcp.accept(listener) do
      connection = GenServer.call(proxy, {:accepted, number, client})
      :gen_tcp.controlling_process(client, connection)
      send(connection, :connect)
      accept(listener, proxy, number + 1)
    end
  end
end
