defmodule PowRedisCache.Endpoint do
  @moduledoc false
  # Where Redis is and how to log in: `:url`, `:username` and `:password`, which may be functions.

  require Logger

  alias PowRedisCache.Native

  @fields [:url, :sentinel, :cluster, :username, :password]

  @doc "The URLs and credentials, or `nil` if the native library has to ask for them at each connect."
  def credentials(options) do
    fields = Map.take(options, @fields)
    unless computed?(fields), do: resolve(fields)
  end

  @doc "A function that answers the requests of the native library, or `nil` if it sends none."
  def provider(options) do
    fields = Map.take(options, @fields)
    # A closure, so that `inspect` of the process state shows no password.
    if computed?(fields), do: fn -> resolve(fields) end
  end

  @doc "Answers a request of the native library, in a process of its own: it may take its time."
  def resolve(name, provider, request) do
    spawn(fn -> Native.resolve(request, try_provider(name, provider)) end)
    :ok
  end

  defp try_provider(name, provider) do
    provider.()
  rescue
    # The exception's message may hold a password.
    error -> failed(name, inspect(error.__struct__))
  catch
    kind, _reason -> failed(name, inspect(kind))
  end

  defp failed(name, reason) do
    Logger.error(
      "#{inspect(name)}: the function for :url, :username or :password failed (#{reason}) or did " <>
        "not return a string"
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
  # The sentinels name the address; this URL only carries the default login.
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
