defmodule PowRedisCache.Server do
  @moduledoc false
  # Owns an instance: starts it, stops it, and turns what happens in it into log lines.
  #
  # The instance lives as long as the handle in this process's state, so it ends with the process,
  # however that ends.

  use GenServer

  require Logger

  alias PowRedisCache.{Error, Instance, Native}

  def start_link(options) do
    if error = Native.load_error() do
      raise Error, reason: :library, operation: :start, detail: error
    end

    GenServer.start_link(__MODULE__, options, name: options.name)
  end

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    native = Map.take(options, [:url, :pool_size, :max_queue, :timeout, :connect_timeout, :index])

    case Native.start(options.name, native) do
      {:ok, handle} ->
        Instance.put(options.name, options)
        # The URL is left out: it may hold a password.
        {:ok, %{name: options.name, handle: handle, timeout: options.timeout}}

      {:error, reason} ->
        {:stop, reason}
    end
  end

  @impl true
  def handle_info({:pow_redis_cache, event}, state) do
    log(event, inspect(state.name))
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # Supervisors wait for `timeout` and a second more.
  @impl true
  def terminate(_reason, state) do
    Instance.erase(state.name)
    Native.stop(state.handle)
    drain(inspect(state.name), System.monotonic_time(:millisecond) + state.timeout)
  end

  defp drain(name, deadline) do
    receive do
      {:pow_redis_cache, :stopped} ->
        :ok

      {:pow_redis_cache, event} ->
        log(event, name)
        drain(name, deadline)
    after
      max(deadline - System.monotonic_time(:millisecond), 0) ->
        Logger.warning("#{name}: stopped before all writes were done")
    end
  end

  defp log({:connected, version}, name) do
    Logger.info("#{name}: connected to #{version || "Redis"}")
  end

  defp log({:disconnected, reason}, name) do
    Logger.error("#{name}: #{message(:connect, reason)}. Trying again in the background")
  end

  defp log({:refused, number}, name) do
    Logger.warning(
      "#{name}: left out #{number} value(s) from Redis that are not fit to become terms"
    )
  end

  defp log({:lost_write, operation, reason}, name) do
    Logger.error("#{name}: asynchronous #{message(operation, reason)}")
  end

  defp log(:stopped, _name), do: :ok

  defp message(operation, reason) do
    operation |> Error.from_native(reason) |> Exception.message()
  end
end
