defmodule PowRedisCache.Bench.Eredis do
  @moduledoc "eredis, a client for Redis in Erlang, from Debian's package `erlang-redis-client`."

  @timeout 60_000

  def name, do: "eredis"

  def available?, do: Code.ensure_loaded?(:eredis)

  def version do
    _ = Application.load(:eredis)
    to_string(Application.spec(:eredis, :vsn))
  end

  # Not a dependency: `apply/3` avoids compiler warnings about an unknown module.
  def start!(port, database) do
    {:ok, client} = apply(:eredis, :start_link, [~c"127.0.0.1", port, database])
    client
  end

  def stop(client), do: apply(:eredis, :stop, [client])

  def command!(client, command) do
    {:ok, reply} = apply(:eredis, :q, [client, command, @timeout])
    with_nil(reply)
  end

  def pipeline(client, commands) do
    replies = apply(:eredis, :qp, [client, commands, @timeout])
    {:ok, for({status, reply} <- replies, do: reply(status, reply))}
  end

  defp reply(:ok, reply), do: reply
  defp reply(:error, message), do: {:error, message}

  defp with_nil(:undefined), do: nil
  defp with_nil(replies) when is_list(replies), do: Enum.map(replies, &with_nil/1)
  defp with_nil(reply), do: reply
end
