defmodule PowRedisCache.Instance do
  @moduledoc false
  # The data that callers need of a running instance, in a persistent term: one lookup per call.
  #
  # `:native` is a weak reference that does not keep the instance running. A term that a killed owner
  # left behind is therefore harmless.

  alias PowRedisCache.{Error, Options, Telemetry}

  @options [:timeout, :writes, :on_error, :default_ttl]
  @enforce_keys [:native, :near_cache, :telemetry?, :topology | @options]
  defstruct @enforce_keys

  def put(name, native, near_cache, options) do
    fields =
      options
      |> Map.take(@options)
      |> Map.merge(%{
        native: native,
        near_cache: near_cache,
        telemetry?: Telemetry.present?(),
        topology: Options.topology(options)
      })

    :persistent_term.put(key(name), struct!(__MODULE__, fields))
  end

  def erase(name), do: :persistent_term.erase(key(name))

  @doc "Returns the names of the running instances."
  def names, do: for({{PowRedisCache, name}, %__MODULE__{}} <- :persistent_term.get(), do: name)

  def fetch!(name, operation) do
    with nil <- :persistent_term.get(key(name), nil), do: not_started!(name, operation)
  end

  @spec not_started!(atom(), atom()) :: no_return()
  def not_started!(name, operation), do: raise(not_started(name, operation))

  def not_started(name, operation) do
    %Error{reason: :not_started, operation: operation, detail: inspect(name)}
  end

  @doc "Sends an event to the owner of the instance, as the native library does."
  def report(name, event) do
    if pid = Process.whereis(name), do: send(pid, {:pow_redis_cache, event})
    :ok
  end

  defp key(name), do: {PowRedisCache, name}
end
