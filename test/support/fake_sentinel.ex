defmodule PowRedisCache.FakeSentinel do
  @moduledoc """
  A sentinel that names the server it is told to name. It ends with the calling process.
  """

  alias PowRedisCache.{FakeServer, Resp}

  defstruct [:server, :named]

  @group "mymaster"

  @doc "Starts a sentinel that names this server as the primary."
  def start!(primary) do
    {:ok, named} = Agent.start_link(fn -> {primary.port, 1} end)

    server =
      FakeServer.start!(
        serve: fn
          ["SENTINEL" | _] -> [{:send, named |> Agent.get(& &1) |> reply()}]
          _command -> [:default]
        end
      )

    %__MODULE__{server: server, named: named}
  end

  @doc "The value of `:sentinel` in the options of an instance."
  def options(sentinel), do: [sentinels: [FakeServer.url(sentinel.server)], group: @group]

  @doc "Names another primary from now on, as after a failover."
  def name(sentinel, primary) do
    Agent.update(sentinel.named, fn {_port, epoch} -> {primary.port, epoch + 1} end)
  end

  @doc "How often it has been asked."
  def asked(sentinel) do
    Enum.count(FakeServer.commands(sentinel.server), &match?(["SENTINEL" | _], &1))
  end

  def stop(sentinel), do: FakeServer.stop(sentinel.server)

  # The reply to SENTINEL MASTER.
  defp reply({port, epoch}) do
    fields = ["ip", "127.0.0.1", "port", "#{port}", "config-epoch", "#{epoch}"]
    Resp.array(for field <- fields, do: Resp.bulk(field))
  end
end
