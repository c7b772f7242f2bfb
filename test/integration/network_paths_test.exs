defmodule PowRedisCache.NetworkPathsTest do
  # The kernel itself delivers late: it goes on sending what a closed socket had not delivered, and packets
  # that wait for a hardware address. Client and server have network namespaces of their own, and two paths
  # between them.
  use ExUnit.Case, async: true

  @moduletag :integration

  alias PowRedisCache.{NetworkNamespaces, Processes, RedisServer, Wait}

  @timeout 2_000

  setup do
    case NetworkNamespaces.start() do
      {:ok, namespaces} ->
        on_exit(fn -> NetworkNamespaces.stop(namespaces) end)
        start_redis(namespaces)
        [namespaces: namespaces, vm: start_vm(namespaces)]

      {:error, reason} ->
        IO.puts("\nnetwork paths: not tested without network namespaces (#{reason})")
        [namespaces: nil]
    end
  end

  # The connection that was given up must have been killed: a reset alone does not stop the packets that the
  # kernel has already sent.
  test "a session stays deleted when the path of a lost connection heals",
       %{namespaces: namespaces} = context do
    if namespaces, do: delete_while_path_is_lost(context)
  end

  defp delete_while_path_is_lost(%{namespaces: namespaces, vm: vm}) do
    config = [namespace: "paths", ttl: 3_600_000]
    start_instance(vm, :a)
    assert call(vm, :put, [config, {"session", 1}]) == :ok
    # Later connects take the other path.
    take_path(vm, :b)
    NetworkNamespaces.lose(namespaces, :a)
    assert call(vm, :put, [config, {"session", 2}]) == :ok
    assert call(vm, :delete, [config, "session"]) == :ok
    NetworkNamespaces.heal(namespaces, :a)
    await_delivery(namespaces)
    assert call(vm, :ping, []) == :ok
    assert call(vm, :get, [config, "session"]) == :not_found
    assert call(vm, :all, [config, [:_]]) == []
  end

  defp start_redis(namespaces) do
    folder = Path.join(System.tmp_dir!(), namespaces.id)
    File.mkdir_p!(folder)

    arguments =
      ~w(--port 6379 --bind 0.0.0.0 --protected-mode no --save) ++
        ["", "--dir", folder]

    {program, arguments} =
      NetworkNamespaces.inside(namespaces.server, [RedisServer.program() | arguments])

    redis = Processes.start!(program, arguments, Path.join(folder, "output"))

    on_exit(fn ->
      Processes.stop(redis)
      File.rm_rf!(folder)
    end)
  end

  # A VM of the client's namespace, with the code of this one.
  defp start_vm(namespaces) do
    {program, arguments} = NetworkNamespaces.inside(namespaces.client, ["erl"])
    paths = for path <- :code.get_path(), path != ~c".", do: [~c"-pa", path]

    {:ok, vm, _node} =
      :peer.start_link(%{
        connection: :standard_io,
        exec: {to_charlist(program), Enum.map(arguments, &to_charlist/1)},
        args: Enum.concat(paths)
      })

    address = to_charlist(NetworkNamespaces.address(:a))
    connect = [address, 6379, []]
    Wait.until(fn -> match?({:ok, _}, :peer.call(vm, :gen_tcp, :connect, connect)) end)
    {:ok, _applications} = :peer.call(vm, :application, :ensure_all_started, [:pow_redis_cache])
    :ok = :peer.call(vm, Logger, :configure, [[level: :warning]])
    vm
  end

  defp start_instance(vm, path) do
    take_path(vm, path)
    options = [url: {System, :fetch_env!, ["REDIS_URL"]}, timeout: @timeout, pool_size: 1]
    # A supervisor that outlives the call.
    child = PowRedisCache.child_spec(options)
    {:ok, _instance} = :peer.call(vm, :supervisor, :start_child, [:kernel_safe_sup, child])
    Wait.until(fn -> call(vm, :info, []).connected end)
  end

  defp take_path(vm, path) do
    url = "redis://#{NetworkNamespaces.address(path)}"
    :ok = :peer.call(vm, System, :put_env, ["REDIS_URL", url])
  end

  defp call(vm, function, arguments) do
    :peer.call(vm, PowRedisCache, function, arguments, 60_000)
  end

  # The client's kernel keeps a closed socket in this state until the server has received all, and packets
  # that it had no hardware address for until it has asked for the address in vain.
  defp await_delivery(namespaces) do
    Wait.until(fn ->
      inside_client(namespaces, ~w(ss --no-header --tcp state fin-wait-1)) == ""
    end)

    Wait.until(fn -> not (inside_client(namespaces, ~w(ip neighbour)) =~ "INCOMPLETE") end)
  end

  defp inside_client(namespaces, command) do
    {program, arguments} = NetworkNamespaces.inside(namespaces.client, command)
    {output, 0} = System.cmd(program, arguments)
    output
  end
end
