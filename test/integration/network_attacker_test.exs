defmodule PowRedisCache.NetworkAttackerTest do
  # What who is between the app and Redis can do, with and without TLS.
  use ExUnit.Case, async: true

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Certificates, Ports, RedisServer, Wait}

  @password "passw0rd-of-redis"
  @value "ann@example.com"

  setup do
    port = Ports.free()
    login = ["--requirepass", @password]
    server = RedisServer.start!(Certificates.server_arguments(port) ++ login, password: @password)
    on_exit(fn -> RedisServer.stop(server) end)
    [server: server, port: port]
  end

  describe "who reads the traffic" do
    test "sees the password and the values without TLS", %{server: server} do
      traffic = use_through(server.port, &[url: "redis://127.0.0.1:#{&1}"])
      assert traffic =~ @password
      assert traffic =~ @value
    end

    for version <- [:"tlsv1.2", :"tlsv1.3"] do
      test "sees neither with TLS, version #{version}", %{port: port} do
        traffic =
          use_through(port, fn relay ->
            [
              url: "rediss://127.0.0.1:#{relay}",
              cacertfile: Certificates.path(:ca),
              tls_versions: [unquote(version)]
            ]
          end)

        assert byte_size(traffic) > 500
        refute traffic =~ @password
        refute traffic =~ @value
        refute traffic =~ "AUTH"
      end
    end
  end

  describe "who poses as Redis" do
    test "gets nothing, since its certificate is not accepted" do
      for {certificate, authority, reason} <- [
            {:server, :other_ca, "unknown_ca"},
            {:wrong_host, :ca, "wrong_host"},
            {:expired, :ca, "expired"}
          ] do
        options = [cacertfile: Certificates.path(authority), timeout: 60_000]
        assert {[], ^reason} = pose(certificate, options)
      end
    end

    test "gets the password with verify: :verify_none" do
      {received, nil} = pose(:wrong_host, verify: :verify_none, timeout: 1_000)
      assert Enum.join(received) =~ @password
    end
  end

  # Uses an instance through a relay, and returns all bytes that went through it.
  defp use_through(port, options) do
    {:ok, recorder} = Agent.start_link(fn -> [] end)
    relay = relay(port, recorder)
    name = unique_name()
    options = [name: name, password: @password, timeout: 60_000] ++ options.(relay)
    start_supervised!({PowRedisCache, options}, id: name)
    config = [name: name, namespace: "n", ttl: 60_000]
    assert PowRedisCache.put(config, {"key", @value}) == :ok
    assert PowRedisCache.get(config, "key") == @value
    recorder |> Agent.get(& &1) |> Enum.reverse() |> IO.iodata_to_binary()
  end

  defp relay(port, recorder) do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false])
    {:ok, relay} = :inet.port(listener)
    start_supervised!({Task, fn -> accept(listener, port, recorder) end}, id: make_ref())
    relay
  end

  defp accept(listener, port, recorder) do
    {:ok, app} = :gen_tcp.accept(listener)
    {:ok, redis} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    for {from, to} <- [{app, redis}, {redis, app}], do: spawn(fn -> copy(from, to, recorder) end)
    accept(listener, port, recorder)
  end

  # The sockets belong to the task, and close when it ends.
  defp copy(from, to, recorder) do
    with {:ok, bytes} <- :gen_tcp.recv(from, 0) do
      Agent.update(recorder, &[bytes | &1])
      :gen_tcp.send(to, bytes)
      copy(from, to, recorder)
    end
  end

  # A TLS server with one of the certificates, to which an instance connects. Returns what it received, and
  # the code of the error of a call, if there was one.
  defp pose(certificate, options) do
    test = self()

    listen = [
      :binary,
      ip: {127, 0, 0, 1},
      active: false,
      certfile: Certificates.path(certificate),
      keyfile: Certificates.key(certificate)
    ]

    {:ok, listener} = :ssl.listen(0, listen)
    {:ok, {_address, port}} = :ssl.sockname(listener)
    start_supervised!({Task, fn -> receive_all(listener, test) end}, id: make_ref())

    name = unique_name()
    options = [name: name, password: @password, url: "rediss://127.0.0.1:#{port}"] ++ options
    start_supervised!({PowRedisCache, options}, id: name)
    assert {:error, error} = PowRedisCache.ping(name)
    code = if error.reason == :tls, do: error.code
    if code == nil, do: Wait.until(fn -> mailbox() != [] end)
    {mailbox(), code}
  end

  defp receive_all(listener, test) do
    with {:ok, socket} <- :ssl.transport_accept(listener),
         {:ok, socket} <- :ssl.handshake(socket, 10_000),
         {:ok, bytes} <- :ssl.recv(socket, 0, 10_000),
         do: send(test, {:received, bytes})

    receive_all(listener, test)
  end

  defp mailbox do
    {:messages, messages} = Process.info(self(), :messages)
    for {:received, bytes} <- messages, do: bytes
  end
end
