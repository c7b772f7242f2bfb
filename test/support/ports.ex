defmodule PowRedisCache.Ports do
  @moduledoc """
  Ports of the loopback address, each given away once: whoever asks at the same time, or later, is given
  others. They lie below those that the system gives to clients, so that nobody takes one while it waits
  to be listened on.
  """

  @first 10_000
  @count 10_000

  @doc "A port on which nobody listens, nor on the others that are each so much higher."
  @spec free([pos_integer()]) :: :inet.port_number()
  def free(others \\ []) do
    # Counted up from elsewhere in each VM, since others may run beside it.
    number = :erlang.phash2(System.pid(), @count) + System.unique_integer([:positive, :monotonic])
    port = @first + rem(number, @count)
    if Enum.all?([0 | others], &free?(port + &1)), do: port, else: free(others)
  end

  defp free?(port) do
    with {:ok, socket} <- :gen_tcp.listen(port, ip: {127, 0, 0, 1}) do
      :gen_tcp.close(socket) == :ok
    else
      {:error, _reason} -> false
    end
  end
end
