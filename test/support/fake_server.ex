defmodule PowRedisCache.FakeServer do
  @moduledoc """
  A TCP server that plays a script: no reply, half a reply, one byte at a time, garbage.

  It replies to the commands of a login as Redis does, and starts the script of a connection at the first
  other command. With `at: :login` the script replaces the replies to the login, too. After the last
  action the server stays silent, unless that is `:close` or `:serve`.

  Actions:

    * `{:send, bytes}`
    * `{:slowly, bytes, pause}` - send one byte at a time;
    * `{:pause, milliseconds}`
    * `:silence` - read commands without replying;
    * `:close`, `:reset` - end the connection;
    * `:next` - wait for the next command;
    * `:default` - reply to the last command as an empty Redis does;
    * `:serve` - reply to this and all further commands as an empty Redis does;
    * `:serve_without_users` - the same as Redis 5 does, which knows no users;
    * `{:refuse, message}` - reply to this and all further commands with an error.
  """

  use GenServer

  alias PowRedisCache.Wait

  defstruct [:pid, :port]

  @type action ::
          {:send, iodata()}
          | {:slowly, binary(), non_neg_integer()}
          | {:pause, non_neg_integer()}
          | {:refuse, String.t()}
          | :silence
          | :close
          | :reset
          | :serve
          | :serve_without_users
          | :default
          | :next

  @doc """
  Starts a server that ends with the calling process. `script` is the script of all connections, or a
  function from a connection's number, counted from 1, to its script.
  """
  @spec start!([action()] | (pos_integer() -> [action()]), keyword()) :: %__MODULE__{}
  def start!(script, options \\ []) do
    script = if is_list(script), do: fn _number -> script end, else: script
    {:ok, pid} = GenServer.start_link(__MODULE__, {script, options})
    %__MODULE__{pid: pid, port: GenServer.call(pid, :port)}
  end

  def url(server), do: "redis://127.0.0.1:#{server.port}"

  @doc "The number of connections accepted so far."
  def connections(server), do: GenServer.call(server.pid, :connections)

  @doc "The commands received so far, each as a list of binaries."
  def commands(server), do: GenServer.call(server.pid, :commands)

  def stop(server), do: GenServer.stop(server.pid)

  @impl true
  def init({script, options}) do
    # The port of a killed server is released a moment later.
    {:ok, listener} = Wait.until(fn -> listen(options[:port] || 0) end)

    server = self()
    at = Keyword.get(options, :at, :command)
    spawn_link(fn -> accept(listener, server, script, at, 1) end)
    {:ok, %{listener: listener, connections: 0, commands: []}}
  end

  defp listen(port) do
    options = [ip: {127, 0, 0, 1}, active: false, reuseaddr: true, nodelay: true, backlog: 1_024]

    case :gen_tcp.listen(port, [:binary | options]) do
      {:error, :eaddrinuse} -> nil
      outcome -> outcome
    end
  end

  @impl true
  def handle_call(:port, _from, state) do
    {:ok, port} = :inet.port(state.listener)
    {:reply, port, state}
  end

  def handle_call(:connections, _from, state), do: {:reply, state.connections, state}
  def handle_call(:commands, _from, state), do: {:reply, Enum.reverse(state.commands), state}

  @impl true
  def handle_info({:connection, number}, state), do: {:noreply, %{state | connections: number}}

  def handle_info({:command, command}, state) do
    {:noreply, %{state | commands: [command | state.commands]}}
  end

  defp accept(listener, server, script, at, number) do
    with {:ok, socket} <- :gen_tcp.accept(listener) do
      send(server, {:connection, number})

      connection = fn ->
        receive do
          :go ->
            converse(%{socket: socket, server: server, script: script.(number), buffer: ""}, at)
        end
      end

      pid = spawn_link(connection)
      :ok = :gen_tcp.controlling_process(socket, pid)
      send(pid, :go)
      accept(listener, server, script, at, number + 1)
    end
  end

  defp converse(state, at) do
    with {:ok, command, state} <- next_command(state) do
      case {at, login(command)} do
        {:command, reply} when is_binary(reply) ->
          :gen_tcp.send(state.socket, reply)
          converse(state, at)

        _ ->
          play(state.script, command, state)
      end
    end
  end

  defp play([], _command, state), do: drain(state)
  defp play([:silence | _], _command, state), do: drain(state)
  defp play([:serve | _], command, state), do: serve(command, state)
  defp play([:serve_without_users | _], command, state), do: serve_without_users(command, state)
  defp play([{:refuse, message} | _], _command, state), do: refuse(message, state)
  defp play([:close | _], _command, state), do: :gen_tcp.close(state.socket)

  defp play([:next | actions], _command, state) do
    with {:ok, command, state} <- next_command(state), do: play(actions, command, state)
  end

  defp play([:reset | _], _command, state) do
    :inet.setopts(state.socket, linger: {true, 0})
    :gen_tcp.close(state.socket)
  end

  defp play([action | actions], command, state) do
    case action do
      {:send, bytes} -> :gen_tcp.send(state.socket, bytes)
      {:slowly, bytes, pause} -> send_slowly(state.socket, bytes, pause)
      {:pause, milliseconds} -> Process.sleep(milliseconds)
      :default -> :gen_tcp.send(state.socket, login(command) || reply(command))
    end

    play(actions, command, state)
  end

  defp send_slowly(_socket, "", _pause), do: :ok

  defp send_slowly(socket, <<byte, rest::binary>>, pause) do
    with :ok <- :gen_tcp.send(socket, <<byte>>) do
      Process.sleep(pause)
      send_slowly(socket, rest, pause)
    end
  end

  defp serve(command, state) do
    :gen_tcp.send(state.socket, login(command) || reply(command))
    with {:ok, command, state} <- next_command(state), do: serve(command, state)
  end

  defp serve_without_users(command, state) do
    reply =
      case command do
        ["AUTH", _user, _password] -> "-ERR wrong number of arguments for 'auth' command\r\n"
        _other -> login(command) || reply(command)
      end

    :gen_tcp.send(state.socket, reply)
    with {:ok, command, state} <- next_command(state), do: serve_without_users(command, state)
  end

  defp refuse(message, state) do
    :gen_tcp.send(state.socket, ["-", message, "\r\n"])
    with {:ok, _command, state} <- next_command(state), do: refuse(message, state)
  end

  # Reads commands until the client disconnects.
  defp drain(state) do
    with {:ok, _command, state} <- next_command(state), do: drain(state)
  end

  defp login([name | _]) when name in ["AUTH", "SELECT", "READONLY", "CLIENT"], do: "+OK\r\n"
  defp login(["ECHO", text]), do: "$#{byte_size(text)}\r\n#{text}\r\n"
  defp login(["PING" | _]), do: "+PONG\r\n"

  defp login(["INFO" | _]) do
    info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n"
    "$#{byte_size(info)}\r\n#{info}\r\n"
  end

  defp login(["TIME" | _]) do
    seconds = Integer.to_string(System.os_time(:second))
    "*2\r\n$#{byte_size(seconds)}\r\n#{seconds}\r\n$6\r\n123456\r\n"
  end

  defp login(["ROLE" | _]), do: "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
  defp login(_command), do: nil

  defp reply(["GET" | _]), do: "$-1\r\n"
  defp reply(["SET" | _]), do: "+OK\r\n"
  defp reply([name | _]) when name in ["SCAN", "ZSCAN"], do: "*2\r\n$1\r\n0\r\n*0\r\n"
  defp reply(_command), do: ":0\r\n"

  defp next_command(state) do
    case parse(state.buffer) do
      {:ok, command, rest} ->
        send(state.server, {:command, command})
        {:ok, command, %{state | buffer: rest}}

      :more ->
        with {:ok, bytes} <- :gen_tcp.recv(state.socket, 0) do
          next_command(%{state | buffer: state.buffer <> bytes})
        end
    end
  end

  defp parse("*" <> rest) do
    with {:ok, count, rest} <- number(rest), do: arguments(count, rest, [])
  end

  defp parse(""), do: :more

  defp arguments(0, rest, arguments), do: {:ok, Enum.reverse(arguments), rest}

  defp arguments(left, "$" <> rest, arguments) do
    with {:ok, size, rest} <- number(rest) do
      if byte_size(rest) >= size + 2 do
        {argument, "\r\n" <> rest} = split_at(rest, size)
        arguments(left - 1, rest, [argument | arguments])
      else
        :more
      end
    end
  end

  defp arguments(_left, "", _arguments), do: :more

  defp split_at(bytes, size) do
    {binary_part(bytes, 0, size), binary_part(bytes, size, byte_size(bytes) - size)}
  end

  defp number(bytes) do
    case String.split(bytes, "\r\n", parts: 2) do
      [digits, rest] -> {:ok, String.to_integer(digits), rest}
      [_] -> :more
    end
  end
end
