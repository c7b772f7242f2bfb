defmodule PowRedisCache.Server do
  @moduledoc false
  # Owns an instance: starts it, stops it, tells it where Redis is, and turns what happens in it into
  # log lines and telemetry.
  #
  # The instance lives as long as the handle in this process's state, so it ends with the process,
  # however that ends.

  use GenServer

  require Logger

  alias PowRedisCache.{Access, Error, Events, Instance, Native}

  def start_link(options) do
    if error = Native.load_error() do
      raise Error, reason: :library, operation: :start, detail: error
    end

    GenServer.start_link(__MODULE__, options, name: options.name)
  end

  @doc "A function that answers with the options of an instance: they may hold a password."
  def options(name), do: GenServer.call(name, :options)

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    # Loads it, where the app has it and loads modules when they are first used.
    Code.ensure_loaded?(:telemetry)

    case Native.start(options.name, native(options)) do
      {:ok, handle} ->
        Instance.put(options.name, options)
        warn_of_unverified(options)

        {:ok,
         %{
           handle: handle,
           timeout: options.timeout,
           # Behind a function: they may hold a password.
           options: fn -> options end,
           source: Access.source(options),
           events: Events.new(options.name)
         }}

      {:error, {:invalid_url, _details}} ->
        {:stop, ArgumentError.exception("expected :url to be the URL of a Redis server")}

      {:error, reason} ->
        {:stop, reason}
    end
  end

  @impl true
  def handle_call(:options, _from, state), do: {:reply, state.options, state}

  @impl true
  def handle_info({:pow_redis_cache, {:access, question}}, state) do
    Access.answer(state.events.name, state.source, question)
    {:noreply, state}
  end

  def handle_info({:pow_redis_cache, event}, state) do
    {:noreply, %{state | events: Events.handle(state.events, event)}}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # Supervisors wait for `timeout` and a second more.
  @impl true
  def terminate(_reason, state) do
    Instance.erase(state.events.name)
    Native.stop(state.handle)
    drain(state.events, System.monotonic_time(:millisecond) + state.timeout)
  end

  defp drain(events, deadline) do
    receive do
      {:pow_redis_cache, :stopped} -> :ok
      {:pow_redis_cache, {:access, _question}} -> drain(events, deadline)
      {:pow_redis_cache, event} -> events |> Events.handle(event) |> drain(deadline)
    after
      max(deadline - System.monotonic_time(:millisecond), 0) ->
        Logger.warning("#{inspect(events.name)}: was stopped before its threads were done")
    end
  end

  @doc "The options as the native library takes them."
  def native(options) do
    sentinel = options.sentinel || %{sentinels: [], group: nil}

    options
    |> Map.take([:database, :tls, :index, :decode])
    |> Map.merge(Map.take(options, [:pool_size, :max_queue, :timeout, :connect_timeout]))
    |> Map.merge(%{
      access: Access.fixed(options),
      topology: topology(options),
      certificates: certificates(options),
      sentinels: Enum.map(sentinel.sentinels, &sentinel(&1, sentinel)),
      group: sentinel.group
    })
  end

  @doc "What Redis is made of."
  def topology(%{sentinel: %{}}), do: :sentinel
  def topology(%{cluster: [_ | _]}), do: :cluster
  def topology(_options), do: :standalone

  defp sentinel(url, options) do
    options
    |> Map.take([:username, :password, :tls])
    |> Map.merge(%{url: url, certificates: certificates(options)})
  end

  defp certificates(options) do
    options
    |> Map.take([:cacertfile, :certfile, :keyfile])
    |> Map.put(:insecure, options.verify == :verify_none)
  end

  defp warn_of_unverified(options) do
    if :verify_none in [options.verify, options.sentinel && options.sentinel.verify] do
      Logger.warning(
        "#{inspect(options.name)}: with verify: :verify_none, whoever is in the way of the " <>
          "connection to Redis can pose as it and read every session"
      )
    end
  end
end
