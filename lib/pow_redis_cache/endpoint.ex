defmodule PowRedisCache.Endpoint do
  @moduledoc false
  # The endpoints of Redis: addresses, logins and TLS settings, for the native library. `:url`,
  # `:username` and `:password` may be functions, whose answers are checked like options.

  require Logger

  alias PowRedisCache.{Native, Shape, Url}

  @doc "Returns the endpoints, or `nil` if the native library has to request them on each connect."
  def fixed(options) do
    unless computed?(options) do
      {:ok, endpoints} = endpoints(options)
      endpoints
    end
  end

  @doc "Returns a function that computes the endpoints, or `nil` if no option is a function."
  def provider(options) do
    # A closure, so that `inspect` of the process state shows no password.
    if computed?(options), do: fn -> endpoints(options) end
  end

  @doc "Resolves a request of the native library in a new process, since user functions may be slow."
  def resolve(name, provider, request) do
    spawn(fn ->
      case provider.() do
        {:ok, endpoints} ->
          Native.resolve(request, endpoints)

        {:error, reason, problem} ->
          Logger.error("#{inspect(name)}: #{problem}")
          Native.resolve(request, reason)
      end
    end)

    :ok
  end

  @doc "Returns the sentinels as endpoints."
  def sentinels(nil), do: []

  def sentinels(options) do
    {:ok, endpoints} = endpoints(options.sentinels, options, options.username, options.password)
    endpoints
  end

  defp computed?(options) do
    Enum.any?([options.url, options.username, options.password], &function?/1)
  end

  defp function?(value), do: is_function(value) or is_tuple(value)

  defp endpoints(options) do
    with {:ok, username} <- value(options, :username),
         {:ok, password} <- value(options, :password),
         {:ok, urls} <- urls(options) do
      endpoints(urls, options, username, password)
    end
  end

  defp endpoints(urls, options, username, password) do
    servers = Enum.map(urls, &Url.parse/1)

    case List.keyfind(servers, :error, 0) do
      nil ->
        {:ok, for({:ok, server} <- servers, do: endpoint(server, options, username, password))}

      {:error, problem} ->
        {:error, :invalid_url, "expected the function for :url to return a URL, got: #{problem}"}
    end
  end

  # The options take precedence over the URL.
  defp endpoint(server, options, username, password) do
    %{
      server
      | username: username || server.username,
        password: password || server.password,
        database: Map.get(options, :database) || server.database,
        tls: if(either(options.tls, server.tls), do: tls(options))
    }
  end

  defp either(nil, scheme), do: scheme
  defp either(option, _scheme), do: option

  defp tls(options) do
    options
    |> Map.take([:cacertfile, :certfile, :keyfile, :server_name])
    |> Map.put(:verify, options.verify == :verify_peer)
    |> Map.put(:tls_versions, options.tls_versions |> Enum.uniq() |> Enum.map(&tls_version/1))
  end

  defp tls_version(:"tlsv1.2"), do: :tls12
  defp tls_version(:"tlsv1.3"), do: :tls13

  defp urls(%{cluster: [_ | _] = urls}), do: {:ok, urls}

  # The sentinels report the address; this URL is the default one.
  defp urls(options) do
    with {:ok, url} <- value(options, :url), do: {:ok, [url]}
  end

  defp value(options, name) do
    case call(options[name]) do
      {:ok, string} when is_binary(string) and string != "" ->
        {:ok, string}

      {:ok, nil} when name != :url ->
        {:ok, nil}

      {:ok, other} ->
        {:error, :endpoint_unavailable,
         "expected the function for #{inspect(name)} to return a string, got: #{Shape.of(other)}"}

      {:failed, reason} ->
        {:error, :endpoint_unavailable,
         "the function for #{inspect(name)} failed (#{reason}). Run it in IEx for the details, " <>
           "which may hold a password"}
    end
  end

  defp call(function) when is_function(function), do: guarded(function)

  defp call({module, function, arguments}) do
    guarded(fn -> apply(module, function, arguments) end)
  end

  defp call(value), do: {:ok, value}

  # The message of an exception, and what is thrown, may hold a password.
  defp guarded(function) do
    {:ok, function.()}
  rescue
    error -> {:failed, inspect(error.__struct__)}
  catch
    kind, _reason -> {:failed, inspect(kind)}
  end
end
