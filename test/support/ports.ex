defmodule PowRedisCache.Ports do
  @moduledoc """
  Free ports of the loopback address. Each is returned once. They are below the range of ephemeral ports,
  so that no client takes one before the server listens on it.
  """

  @first 10_000
  @count 10_000

  @doc "A port without a listener. The ports at the given offsets above it have none, either."
  @spec free([pos_integer()]) :: :inet.port_number()
  def free(offsets \\ []) do
    # Each VM starts at another port, since several may run at the same time.
    number = :erlang.phash2(System.pid(), @count) + System.unique_integer([:positive, :monotonic])
    port = @first + rem(number, @count)
    if Enum.all?([0 | offsets], &free?(port + &1)), do: port, else: free(offsets)
  end

  defp free?(port) do
    with {:ok, socket} <- :gen_tcp.listen(port, ip: {127, 0, 0, 1}) do
      :gen_tcp.close(socket) == :ok
    else
      {:error, _reason} -> false
    end
  end
end
