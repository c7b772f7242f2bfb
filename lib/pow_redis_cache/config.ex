defmodule PowRedisCache.Config do
  @moduledoc false
  # What a call's configuration says: Pow's way where Pow is there, else the keyword list alone.

  @pow Code.ensure_loaded?(Pow.Config)

  @doc "The value in the call's configuration, else in that of Pow."
  if @pow do
    def get(config, key, default), do: Pow.Config.get(config, key, default)
  else
    def get(config, key, default), do: Keyword.get(config, key, default)
  end

  @doc "The time to live in milliseconds, or `:infinity`."
  def ttl!(config, default, module) do
    case get(config, :ttl, nil) || default do
      nil ->
        missing("`:ttl` configuration option is required for #{inspect(module)}")

      :infinity ->
        :infinity

      ttl ->
        unless PowRedisCache.Options.ttl?(ttl) do
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
