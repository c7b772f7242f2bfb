defmodule PowRedisCache.Server do
  @moduledoc false
  # Owns an instance: starts and stops it, resolves its endpoint, swaps the tables of its near cache, and
  # passes its events to `Events`.
  #
  # The instance runs as long as the handle in this process's state exists. It therefore stops with
  # the process, even if the process is killed.

  use GenServer

  require Logger

  alias PowRedisCache.{Endpoint, Error, Events, Instance, Native, NearCache, Options, Reseal}

  def start_link(options) do
    if error = Native.load_error() do
      raise Error, reason: :nif_not_loaded, operation: :start, detail: error
    end

    # Wrapped in a function, so that no report of the start shows a password.
    GenServer.start_link(__MODULE__, fn -> options end, name: options.name)
  end

  @doc "Returns a function that returns the options of an instance: they may hold a password."
  def options(name), do: GenServer.call(name, :options)

  @impl true
  def init(wrapped) do
    options = wrapped.()
    Process.flag(:trap_exit, true)
    # In interactive mode, :telemetry is not loaded before its first use.
    Code.ensure_loaded?(:telemetry)

    case start_native(options) do
      {:ok, handle, instance, near} ->
        # The keys of :seal are left in the native library only.
        :erlang.garbage_collect()
        near_cache = near && NearCache.new(near, options.near_cache)
        Instance.put(options.name, instance, near_cache, options)
        warn_if_unverified(options)

        {:ok,
         %{
           handle: handle,
           timeout: options.timeout,
           options: wrapped,
           provider: Endpoint.provider(options),
           near_cache: near_cache,
           counts_plain?: match?(%{plain: :refuse}, options.seal),
           events: Events.new(options.name, Options.topology(options))
         }}

      {:error, reason} ->
        {:stop, reason}
    end
  end

  defp start_native(options) do
    case Options.Seal.resolve(options.seal) do
      {:ok, seal} -> options |> Options.to_native() |> Map.put(:seal, seal) |> Native.start()
      {:error, message} -> {:error, ArgumentError.exception(message)}
    end
  end

  @impl true
  def handle_call(:options, _from, state), do: {:reply, state.options, state}

  @impl true
  def handle_info({:pow_redis_cache, {:resolve, request}}, state) do
    Endpoint.resolve(state.events.name, state.provider, request)
    {:noreply, state}
  end

  def handle_info({:near_cache_full, generation}, state) do
    NearCache.swap(state.near_cache, generation)
    {:noreply, state}
  end

  # Once, in another process, so that nothing waits for it.
  def handle_info(
        {:pow_redis_cache, {:connected, _version} = event},
        %{counts_plain?: true} = state
      ) do
    Reseal.report_plain(state.events.name)
    handle_info({:pow_redis_cache, event}, %{state | counts_plain?: false})
  end

  def handle_info({:pow_redis_cache, event}, state) do
    if match?({:near_cache_ended, _reason}, event), do: NearCache.clear(state.near_cache)
    {:noreply, %{state | events: Events.handle(state.events, event)}}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # Supervisors wait one second longer than `timeout`, see `PowRedisCache.child_spec/1`.
  @impl true
  def terminate(_reason, state) do
    Instance.erase(state.events.name)
    Native.stop(state.handle)
    drain(state.events, System.monotonic_time(:millisecond) + state.timeout)
  end

  defp drain(events, deadline) do
    receive do
      {:pow_redis_cache, :stopped} -> :ok
      {:pow_redis_cache, {:resolve, _request}} -> drain(events, deadline)
      {:pow_redis_cache, event} -> events |> Events.handle(event) |> drain(deadline)
    after
      max(deadline - System.monotonic_time(:millisecond), 0) ->
        Logger.warning("#{inspect(events.name)}: stopped before its worker threads finished")
    end
  end

  defp warn_if_unverified(options) do
    if :verify_none in [options.verify, options.sentinel && options.sentinel.verify] do
      Logger.warning(
        "#{inspect(options.name)}: TLS certificate verification is off (verify: :verify_none): a " <>
          "man-in-the-middle can impersonate Redis and read every session"
      )
    end
  end
end
