defmodule PowRedisCache.HoldingProxy.Connection do
  @moduledoc """
  A connection of `PowRedisCache.HoldingProxy`: its two sockets, and the bytes under way between them.
  """

  use GenServer

  alias PowRedisCache.Resp

  def start_link(arguments), do: GenServer.start_link(__MODULE__, arguments)

  def set_mode(connection, direction, mode), do: call(connection, {:mode, direction, mode})
  def cut(connection, side), do: call(connection, {:cut, side})
  def delay(connection, milliseconds), do: call(connection, {:delay, milliseconds})

  # The connection may have ended.
  defp call(connection, request) do
    GenServer.call(connection, request)
  catch
    :exit, _reason -> :ok
  end

  @impl true
  def init(arguments) do
    mode = if arguments.new == :refuse, do: :pass, else: arguments.new

    {:ok,
     %{
       target: arguments.target,
       rewrite: arguments.rewrite,
       delay: arguments.delay,
       refuse: arguments.new == :refuse,
       # The sockets, `nil` when they are closed.
       client: arguments.client,
       server: nil,
       # The mode of each direction, and what is under way in it: bytes or `:close`, with the time when
       # it is due.
       to_server: {mode, :queue.new()},
       to_client: {mode, :queue.new()},
       # For `:rewrite`: the commands without a reply, and the incomplete command and reply.
       commands: :queue.new(),
       command: "",
       reply: ""
     }}
  end

  @impl true
  def handle_call({:mode, direction, mode}, _from, state) do
    {_mode, queue} = Map.fetch!(state, direction)
    state |> Map.put(direction, {mode, queue}) |> deliver(direction) |> reply()
  end

  def handle_call({:cut, :both}, _from, state),
    do: state |> reset(:client) |> reset(:server) |> reply()

  def handle_call({:cut, side}, _from, state), do: state |> reset(side) |> reply()
  def handle_call({:delay, delay}, _from, state), do: reply(%{state | delay: delay})

  @impl true
  def handle_info(:connect, %{refuse: true} = state), do: {:stop, :normal, reset(state, :client)}

  def handle_info(:connect, state) do
    case :gen_tcp.connect({127, 0, 0, 1}, state.target, [:binary, active: false]) do
      {:ok, server} ->
        for socket <- [state.client, server],
            do: :inet.setopts(socket, active: true, nodelay: true)

        {:noreply, %{state | server: server}}

      {:error, _reason} ->
        {:stop, :normal, reset(state, :client)}
    end
  end

  def handle_info({:tcp, socket, bytes}, state) do
    direction = if socket == state.client, do: :to_server, else: :to_client
    {bytes, state} = rewrite(state, direction, bytes)
    state |> enqueue(direction, bytes) |> noreply()
  end

  def handle_info({:tcp_closed, socket}, state), do: state |> ended(socket) |> noreply()
  def handle_info({:tcp_error, socket, _reason}, state), do: state |> ended(socket) |> noreply()
  def handle_info({:due, direction}, state), do: state |> deliver(direction) |> noreply()

  # The process ends when both sides are closed.
  defp noreply(%{client: nil, server: nil} = state), do: {:stop, :normal, state}
  defp noreply(state), do: {:noreply, state}

  defp reply(%{client: nil, server: nil} = state), do: {:stop, :normal, :ok, state}
  defp reply(state), do: {:reply, :ok, state}

  defp ended(state, socket) do
    cond do
      socket == state.client -> enqueue(%{state | client: nil}, :to_server, :close)
      socket == state.server -> enqueue(%{state | server: nil}, :to_client, :close)
      true -> state
    end
  end

  defp reset(state, side) do
    with socket when socket != nil <- Map.fetch!(state, side) do
      :inet.setopts(socket, linger: {true, 0})
      :gen_tcp.close(socket)
      ended(state, socket)
    else
      nil -> state
    end
  end

  defp enqueue(state, direction, item) do
    {mode, queue} = Map.fetch!(state, direction)
    queue = :queue.in({now() + state.delay, item}, queue)
    state |> Map.put(direction, {mode, queue}) |> deliver(direction)
  end

  defp deliver(state, direction) do
    case Map.fetch!(state, direction) do
      {:hold, _queue} -> state
      # The end of the connection is not dropped with the bytes.
      {:drop, queue} -> Map.put(state, direction, {:drop, :queue.filter(&closes?/1, queue)})
      {:pass, queue} -> deliver_due(state, direction, queue)
    end
  end

  defp closes?({_due, item}), do: item == :close

  # Items keep their order, whatever the delays were.
  defp deliver_due(state, direction, queue) do
    now = now()

    case :queue.out(queue) do
      {:empty, queue} ->
        Map.put(state, direction, {:pass, queue})

      {{:value, {due, item}}, rest} when due <= now ->
        state |> forward(direction, item) |> deliver_due(direction, rest)

      {{:value, {due, _item}}, _rest} ->
        Process.send_after(self(), {:due, direction}, due - now)
        Map.put(state, direction, {:pass, queue})
    end
  end

  defp forward(state, direction, item) do
    side = if direction == :to_server, do: :server, else: :client

    case {Map.fetch!(state, side), item} do
      {nil, _item} ->
        state

      {socket, :close} ->
        :gen_tcp.close(socket)
        Map.put(state, side, nil)

      {socket, bytes} ->
        :gen_tcp.send(socket, bytes)
        state
    end
  end

  defp rewrite(%{rewrite: nil} = state, _direction, bytes), do: {bytes, state}

  defp rewrite(state, :to_server, bytes) do
    {bytes, take_commands(%{state | command: state.command <> bytes})}
  end

  defp rewrite(state, :to_client, bytes) do
    take_replies(%{state | reply: state.reply <> bytes}, [])
  end

  defp take_commands(state) do
    case Resp.take_command(state.command) do
      {:ok, command, rest} ->
        take_commands(%{state | command: rest, commands: :queue.in(command, state.commands)})

      :more ->
        state
    end
  end

  defp take_replies(state, taken) do
    case Resp.take_reply(state.reply) do
      {:ok, reply, rest} ->
        {{:value, command}, commands} = :queue.out(state.commands)
        reply = state.rewrite.(command, reply)
        take_replies(%{state | reply: rest, commands: commands}, [reply | taken])

      :more ->
        {IO.iodata_to_binary(Enum.reverse(taken)), state}
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
