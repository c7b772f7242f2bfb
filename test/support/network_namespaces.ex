defmodule PowRedisCache.NetworkNamespaces do
  @moduledoc """
  Two network namespaces, a client's and a server's, that are connected by two paths. Each path has
  addresses of its own and can lose all packets. They need root and `ip`, and a kernel that permits it.
  """

  defstruct [:id, :client, :server]

  @type t :: %__MODULE__{id: String.t(), client: String.t(), server: String.t()}
  @type path :: :a | :b

  @prefix "pow_redis_cache_"
  @networks %{a: "10.213.1", b: "10.213.2"}

  @doc "Makes the namespaces, or returns the reason why that is not possible."
  @spec start() :: {:ok, t()} | {:error, String.t()}
  def start do
    if System.find_executable("ip") do
      remove_abandoned()
      id = "#{@prefix}#{System.pid()}_#{System.unique_integer([:positive])}"
      namespaces = %__MODULE__{id: id, client: "#{id}_client", server: "#{id}_server"}

      case set_up(namespaces) do
        :ok ->
          {:ok, namespaces}

        error ->
          stop(namespaces)
          error
      end
    else
      {:error, "ip is not installed"}
    end
  end

  @doc "Removes the namespaces with everything in them. Any process may call it, and more than once."
  def stop(namespaces) do
    for name <- [namespaces.client, namespaces.server], do: ip(["netns", "del", name])
    :ok
  end

  @doc "The server's address on a path."
  def address(path), do: "#{@networks[path]}.2"

  @doc "A program and its arguments that run another program inside a namespace."
  @spec inside(String.t(), [String.t()]) :: {String.t(), [String.t()]}
  def inside(namespace, [program | arguments]) do
    executable = System.find_executable(program) || raise "#{program} is not installed"
    {System.find_executable("ip"), ["netns", "exec", namespace, executable | arguments]}
  end

  @doc "Loses all packets of a path from now on."
  def lose(namespaces, path), do: set_carrier(namespaces, path, "down")

  @doc "Loses no more packets."
  def heal(namespaces, path), do: set_carrier(namespaces, path, "up")

  # Without a carrier at the server's end the kernel of the client loses what it sends, and keeps the
  # address and the routes.
  defp set_carrier(namespaces, path, state) do
    :ok = ip(["-n", namespaces.server, "link", "set", device(path, "s"), state])
  end

  defp set_up(namespaces) do
    %{client: client, server: server} = namespaces

    commands =
      [
        ["netns", "add", client],
        ["netns", "add", server],
        ["-n", client, "link", "set", "lo", "up"],
        ["-n", server, "link", "set", "lo", "up"]
      ] ++ Enum.flat_map(Map.keys(@networks), &path_commands(namespaces, &1))

    Enum.reduce_while(commands, :ok, fn command, :ok ->
      with :ok <- ip(command), do: {:cont, :ok}, else: (error -> {:halt, error})
    end)
  end

  defp path_commands(%{client: client, server: server}, path) do
    {at_client, at_server} = {device(path, "c"), device(path, "s")}

    [
      ["-n", client, "link", "add", at_client, "type", "veth", "peer", "name", at_server] ++
        ["netns", server],
      ["-n", client, "addr", "add", "#{@networks[path]}.1/24", "dev", at_client],
      ["-n", server, "addr", "add", "#{@networks[path]}.2/24", "dev", at_server],
      ["-n", client, "link", "set", at_client, "up"],
      ["-n", server, "link", "set", at_server, "up"]
    ]
  end

  defp device(path, side), do: "path_#{path}_#{side}"

  # A VM that is killed leaves its namespaces behind.
  defp remove_abandoned do
    {list, _status} = System.cmd("ip", ["netns", "list"], stderr_to_stdout: true)

    for [name, pid] <- Regex.scan(~r/^#{@prefix}(\d+)_\w+/m, list),
        not File.exists?("/proc/#{pid}"),
        do: ip(["netns", "del", name])
  end

  defp ip(arguments) do
    case System.cmd("ip", arguments, stderr_to_stdout: true) do
      {_output, 0} -> :ok
      {output, _status} -> {:error, "ip #{Enum.join(arguments, " ")}: #{String.trim(output)}"}
    end
  end
end
