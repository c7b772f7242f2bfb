defmodule PowRedisCache.Bench.Network do
  @moduledoc "Connects to a Redis server over loopback, or through a proxy that adds 1 ms to each round trip."

  alias PowRedisCache.RedisServer

  @enforce_keys [:name, :port]
  defstruct [:name, :port, :process]

  @added_us 1_000

  def start_all(%RedisServer{port: port}, proxy) do
    [%__MODULE__{name: "loopback", port: port}, start_proxy(port, proxy)]
  end

  def stop_all(networks) do
    for %{process: process} when process != nil <- networks, do: Port.close(process)
  end

  # The proxy ends when its standard input closes.
  defp start_proxy(port, proxy) do
    process =
      Port.open({:spawn_executable, proxy}, [:binary, line: 80, args: ["#{port}", "#{@added_us}"]])

    receive do
      {^process, {:data, {:eol, line}}} ->
        %__MODULE__{name: "1 ms", port: String.to_integer(line), process: process}
    after
      10_000 -> raise "the proxy #{proxy} did not start"
    end
  end
end
