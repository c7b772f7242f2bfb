defmodule PowRedisCache.Endpoint do
  @moduledoc false
  # The URLs and credentials of Redis. `:url`, `:username` and `:password` may be functions.

  require Logger

  alias PowRedisCache.Native

  @fields [:url, :sentinel, :cluster, :username, :password]

  @doc "Returns URLs and credentials, or `nil` if the native library has to request them on each connect."
  def credentials(options) do
    fields = Map.take(options, @fields)
    unless computed?(fields), do: resolve(fields)
  end

  @doc "Returns a function that resolves URLs and credentials, or `nil` if none of them is a function."
  def provider(options) do
    fields = Map.take(options, @fields)
    # A closure, so that `inspect` of the process state shows no password.
    if computed?(fields), do: fn -> resolve(fields) end
  end

  @doc "Resolves a request of the native library in a new process, since user functions may be slow."
  def resolve(name, provider, request) do
    spawn(fn -> Native.resolve(request, try_provider(name, provider)) end)
    :ok
  end

  defp try_provider(name, provider) do
    provider.()
  rescue
    # The exception's message may hold a password.
    error -> log_failure(name, inspect(error.__struct__))
  catch
    kind, _reason -> log_failure(name, inspect(kind))
  end

  defp log_failure(name, reason) do
    Logger.error(
      "#{inspect(name)}: the function for :url, :username or :password failed (#{reason}). Check " <>
        "that it returns a string"
    )

    nil
  end

  defp computed?(fields),
    do: Enum.any?([fields.url, fields.username, fields.password], &function?/1)

  defp function?(value), do: is_function(value) or is_tuple(value)

  defp resolve(fields) do
    %{
      urls: urls(fields),
      username: string!(fields.username, :username),
      password: string!(fields.password, :password)
    }
  end

  defp urls(%{cluster: [_ | _] = urls}), do: urls
  # The sentinels report the address. This URL only carries the default credentials.
  defp urls(%{sentinel: %{}}), do: ["redis://localhost"]
  defp urls(%{url: url}), do: [string!(url, :url)]

  defp string!(value, name) do
    case call(value) do
      string when is_binary(string) ->
        string

      nil when name != :url ->
        nil

      _ ->
        raise ArgumentError, "expected the function for #{inspect(name)} to return a string"
    end
  end

  defp call(function) when is_function(function), do: function.()
  defp call({module, function, arguments}), do: apply(module, function, arguments)
  defp call(value), do: value
end
