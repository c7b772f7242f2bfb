defmodule PowRedisCache.FakeServer do
  @moduledoc """
  A server that plays a script: no reply, half a reply, one byte at a time, garbage.

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
    * `{:serve, function}` - reply to this and all further commands with the actions that a function
      returns for them;
    * `{:later, milliseconds, bytes}` - send bytes later, whatever else is sent until then;
    * `:serve_without_users` - the same as Redis 5 does, which knows no users;
    * `{:refuse, message}` - reply to this and all further commands with an error.
  """

  use GenServer

  alias PowRedisCache.{Certificates, Resp, Wait}

  defstruct [:pid, :port, :url]

  @type action ::
          {:send, iodata()}
          | {:slowly, binary(), non_neg_integer()}
          | {:pause, non_neg_integer()}
          | {:refuse, String.t()}
          | {:serve, ([binary()] -> [action()])}
          | {:later, non_neg_integer(), iodata()}
          | :silence
          | :close
          | :reset
          | :serve
          | :serve_without_users
          | :default
          | :next

  @doc """
  Starts a server that ends with the calling process. `script` is the script of all connections, or a
  function from a connection's number, counted from 1, to its script. Options: `:port`; `:at`;
  `:transport`, which is `:tcp` (default), `:tls` or `:unix`.
  """
  @spec start!([action()] | (pos_integer() -> [action()]), keyword()) :: %__MODULE__{}
  def start!(script, options \\ []) do
    script = if is_list(script), do: fn _number -> script end, else: script
    {:ok, pid} = GenServer.start_link(__MODULE__, {script, options})
    address = GenServer.call(pid, :address)
    %__MODULE__{pid: pid, port: address[:port], url: address[:url]}
  end

  def url(server), do: server.url

  @doc "The number of connections accepted so far."
  def connections(server), do: GenServer.call(server.pid, :connections)

  @doc "The commands received so far, each as a list of binaries."
  def commands(server), do: GenServer.call(server.pid, :commands)

  def stop(server), do: GenServer.stop(server.pid)

  @doc "The reply of an empty Redis."
  @spec reply([binary()]) :: binary()
  def reply(command), do: login(command) || data(command)

  @impl true
  def init({script, options}) do
    transport = Keyword.get(options, :transport, :tcp)
    # The port of a killed server is released a moment later.
    {:ok, listener} = Wait.until(fn -> listen(transport, options[:port] || 0) end)

    server = self()
    at = Keyword.get(options, :at, :command)
    spawn_link(fn -> accept(listener, server, script, at, 1) end)
    {:ok, %{listener: listener, connections: 0, commands: []}}
  end

  @impl true
  def terminate(_reason, state) do
    with {:unix, _socket, path} <- state.listener, do: File.rm(path)
  end

  @listen [:binary, active: false, backlog: 1_024]
  @listen_tcp [ip: {127, 0, 0, 1}, reuseaddr: true, nodelay: true] ++ @listen

  defp listen(:tcp, port) do
    case :gen_tcp.listen(port, @listen_tcp) do
      {:ok, socket} -> {:ok, {:tcp, socket}}
      {:error, :eaddrinuse} -> nil
    end
  end

  defp listen(:tls, port) do
    certificate = [certfile: Certificates.path(:server), keyfile: Certificates.key(:server)]
    {:ok, socket} = :ssl.listen(port, certificate ++ @listen_tcp)
    {:ok, {:tls, socket}}
  end

  defp listen(:unix, _port) do
    name = "pow_redis_cache_#{System.pid()}_#{System.unique_integer([:positive])}.sock"
    path = Path.join(System.tmp_dir!(), name)
    {:ok, socket} = :gen_tcp.listen(0, [ifaddr: {:local, path}] ++ @listen)
    {:ok, {:unix, socket, path}}
  end

  @impl true
  def handle_call(:address, _from, state), do: {:reply, address(state.listener), state}
  def handle_call(:connections, _from, state), do: {:reply, state.connections, state}
  def handle_call(:commands, _from, state), do: {:reply, Enum.reverse(state.commands), state}

  @impl true
  def handle_info({:connection, number}, state), do: {:noreply, %{state | connections: number}}

  def handle_info({:command, command}, state) do
    {:noreply, %{state | commands: [command | state.commands]}}
  end

  defp address({:tcp, socket}) do
    {:ok, port} = :inet.port(socket)
    [port: port, url: "redis://127.0.0.1:#{port}"]
  end

  defp address({:tls, socket}) do
    {:ok, {_ip, port}} = :ssl.sockname(socket)
    [port: port, url: "rediss://127.0.0.1:#{port}"]
  end

  defp address({:unix, _socket, path}), do: [url: "unix://#{path}"]

  defp accept(listener, server, script, at, number) do
    with {:ok, socket} <- accept(listener) do
      send(server, {:connection, number})

      connection = fn ->
        receive do
          :go ->
            with {:ok, socket} <- handshake(socket) do
              converse(%{socket: socket, server: server, script: script.(number), buffer: ""}, at)
            end
        end
      end

      pid = spawn_link(connection)
      :ok = give(socket, pid)
      send(pid, :go)
      accept(listener, server, script, at, number + 1)
    end
  end

  # A socket is a pair of its module and the socket.
  defp accept({:tls, listener}), do: listener |> :ssl.transport_accept() |> with_module(:ssl)
  defp accept(listener), do: listener |> elem(1) |> :gen_tcp.accept() |> with_module(:gen_tcp)

  defp with_module({:ok, socket}, module), do: {:ok, {module, socket}}
  defp with_module(error, _module), do: error

  defp handshake({:ssl, socket}), do: socket |> :ssl.handshake() |> with_module(:ssl)
  defp handshake(socket), do: {:ok, socket}

  defp give({module, socket}, pid), do: module.controlling_process(socket, pid)
  defp transmit({module, socket}, bytes), do: module.send(socket, bytes)
  defp receive_bytes({module, socket}), do: module.recv(socket, 0)
  defp close({module, socket}), do: module.close(socket)

  defp reset({:ssl, socket}), do: :ssl.setopts(socket, linger: {true, 0})
  defp reset({:gen_tcp, socket}), do: :inet.setopts(socket, linger: {true, 0})

  defp converse(state, at) do
    with {:ok, command, state} <- next_command(state) do
      case {at, login(command)} do
        {:command, reply} when is_binary(reply) ->
          transmit(state.socket, reply)
          converse(state, at)

        _ ->
          play(state.script, command, state)
      end
    end
  end

  defp play([], _command, state), do: drain(state)
  defp play([:silence | _], _command, state), do: drain(state)
  defp play([:serve | _], command, state), do: serve(fn _ -> [:default] end, command, state)
  defp play([{:serve, function} | _], command, state), do: serve(function, command, state)

  defp play([:serve_without_users | _], command, state),
    do: serve(&without_users/1, command, state)

  defp play([{:refuse, message} | _], _command, state), do: refuse(message, state)
  defp play([:close | _], _command, state), do: close(state.socket)

  defp play([:next | actions], _command, state) do
    with {:ok, command, state} <- next_command(state), do: play(actions, command, state)
  end

  defp play([:reset | _], _command, state) do
    reset(state.socket)
    close(state.socket)
  end

  defp play([action | actions], command, state) do
    perform(action, command, state)
    play(actions, command, state)
  end

  defp perform(action, command, state) do
    case action do
      {:send, bytes} -> transmit(state.socket, bytes)
      {:slowly, bytes, pause} -> send_slowly(state.socket, bytes, pause)
      {:later, milliseconds, bytes} -> send_later(state.socket, milliseconds, bytes)
      {:pause, milliseconds} -> Process.sleep(milliseconds)
      :default -> transmit(state.socket, reply(command))
      :close -> close(state.socket)
    end
  end

  defp send_later(socket, milliseconds, bytes) do
    spawn(fn ->
      Process.sleep(milliseconds)
      transmit(socket, bytes)
    end)
  end

  defp send_slowly(_socket, "", _pause), do: :ok

  defp send_slowly(socket, <<byte, rest::binary>>, pause) do
    with :ok <- transmit(socket, <<byte>>) do
      Process.sleep(pause)
      send_slowly(socket, rest, pause)
    end
  end

  defp serve(function, command, state) do
    for action <- function.(command), do: perform(action, command, state)
    with {:ok, command, state} <- next_command(state), do: serve(function, command, state)
  end

  defp without_users(["AUTH", _user, _password]),
    do: [{:send, "-ERR wrong number of arguments for 'auth' command\r\n"}]

  defp without_users(_command), do: [:default]

  defp refuse(message, state) do
    transmit(state.socket, ["-", message, "\r\n"])
    with {:ok, _command, state} <- next_command(state), do: refuse(message, state)
  end

  # Reads commands until the client disconnects.
  defp drain(state) do
    with {:ok, _command, state} <- next_command(state), do: drain(state)
  end

  defp login([name | _]) when name in ["AUTH", "SELECT", "READONLY", "CLIENT"], do: "+OK\r\n"
  defp login(["ECHO", text]), do: Resp.bulk(text)
  defp login(["PING" | _]), do: "+PONG\r\n"

  defp login(["INFO" | _]) do
    Resp.bulk("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n")
  end

  defp login(["TIME" | _]), do: Resp.time(System.os_time(:second))

  defp login(["ROLE" | _]), do: "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
  defp login(_command), do: nil

  defp data(["GET" | _]), do: "$-1\r\n"
  defp data(["SET" | _]), do: "+OK\r\n"
  defp data([name | _]) when name in ["SCAN", "ZSCAN"], do: "*2\r\n$1\r\n0\r\n*0\r\n"
  defp data(_command), do: ":0\r\n"

  defp next_command(state) do
    case Resp.take_command(state.buffer) do
      {:ok, command, rest} ->
        send(state.server, {:command, command})
        {:ok, command, %{state | buffer: rest}}

      :more ->
        with {:ok, bytes} <- receive_bytes(state.socket) do
          next_command(%{state | buffer: state.buffer <> bytes})
        end
    end
  end
end
