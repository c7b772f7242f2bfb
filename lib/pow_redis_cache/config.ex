defmodule PowRedisCache.Config do
  @moduledoc false
  # Reads the configuration of a call, through `Pow.Config` if Pow is available.

  # No value.
  @none :"$pow_redis_cache_none"

  @pow match?({:module, _}, Code.ensure_compiled(Pow.Config))

  @doc """
  Returns a value from the configuration of the call, or `default`. It has few keys: this is faster than
  `Keyword.get/3`, and a read from memory takes little more than a microsecond.
  """
  def own([{key, value} | _config], key, _default), do: value
  def own([_other | config], key, default), do: own(config, key, default)
  def own(_end, _key, default), do: default

  @doc "Returns a value from the configuration of the call, or else of Pow."
  def get(config, key, default) do
    case own(config, key, @none) do
      @none -> fallback(config, key, default)
      value -> value
    end
  end

  if @pow do
    defp fallback(config, key, default), do: Pow.Config.get(config, key, default)
  else
    defp fallback(_config, _key, default), do: default
  end

  @doc "Returns the TTL in milliseconds, or `:infinity`."
  def ttl!(config, default, module) do
    case get(config, :ttl, nil) || default do
      nil ->
        missing("`:ttl` configuration option is required for #{inspect(module)}")

      :infinity ->
        :infinity

      ttl ->
        unless PowRedisCache.Options.Type.ttl?(ttl) do
          raise ArgumentError,
                "expected :ttl to be a positive integer (milliseconds), got: #{inspect(ttl)}"
        end

        ttl
    end
  end

  if @pow do
    defp missing(message), do: Pow.Config.raise_error(message)
  else
    defp missing(message), do: raise(ArgumentError, message)
  end
end
