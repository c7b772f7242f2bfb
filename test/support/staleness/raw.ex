defmodule PowRedisCache.Staleness.Raw do
  @moduledoc """
  Sends commands about a key to the server that is responsible for it, with connections of the calling
  process. Follows redirections of a Redis Cluster.
  """

  alias PowRedisCache.RedisClient

  @redirections 8

  defstruct [:ports]

  @type t :: %__MODULE__{ports: (() -> [:inet.port_number()])}

  @doc "With a function that returns the ports of the servers that may be asked first."
  @spec new((() -> [:inet.port_number()])) :: t()
  def new(ports), do: %__MODULE__{ports: ports}

  @doc """
  Sends commands in one pipeline and returns `{:ok, replies}`; `:refused`, if none of them was applied;
  `:lost`, if the connection was closed, so that they may have been applied; `:pending`, if there was no
  reply, so that they may still be.
  """
  @spec run(t(), term(), [[term()]]) :: {:ok, list()} | :refused | :lost | :pending
  def run(raw, key, commands) do
    ports = raw.ports.()
    remembered = Process.get({__MODULE__, key})
    port = if remembered in ports, do: remembered, else: Enum.random(ports)
    run(key, commands, port, @redirections)
  end

  defp run(_key, _commands, _port, 0), do: :refused

  defp run(key, commands, port, left) do
    with {:ok, client} <- client(port),
         {:ok, replies} <- pipeline(client, port, commands) do
      case Enum.find(replies, &match?({:error, _message}, &1)) do
        nil ->
          Process.put({__MODULE__, key}, port)
          {:ok, without_asking(replies, commands)}

        {:error, "MOVED " <> target} ->
          run(key, commands, port(target), left - 1)

        {:error, "ASK " <> target} ->
          run(key, [["ASKING"] | commands], port(target), left - 1)

        {:error, _message} ->
          Process.delete({__MODULE__, key})
          :refused
      end
    else
      failure ->
        Process.delete({__MODULE__, key})
        failure
    end
  end

  defp without_asking([_ok | replies], [["ASKING"] | _commands]), do: replies
  defp without_asking(replies, _commands), do: replies

  defp port(target), do: target |> String.split(":") |> List.last() |> String.to_integer()

  defp client(port) do
    case Process.get({__MODULE__, :client, port}) do
      nil ->
        with {:ok, client} <- RedisClient.connect(port) do
          Process.put({__MODULE__, :client, port}, client)
          {:ok, client}
        else
          {:error, _reason} -> :refused
        end

      client ->
        {:ok, client}
    end
  end

  defp pipeline(client, port, commands) do
    with {:error, reason} <- RedisClient.pipeline(client, commands) do
      RedisClient.close(client)
      Process.delete({__MODULE__, :client, port})
      if reason == :timeout, do: :pending, else: :lost
    end
  end
end
