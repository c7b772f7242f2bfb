defmodule PowRedisCache.Access do
  @moduledoc false
  # Where Redis is, and who we are there: what may be given as a function.

  require Logger

  alias PowRedisCache.Native

  @fields [:url, :sentinel, :cluster, :username, :password]

  @doc "What the native library is to be told at start: nothing, where it has to ask each time."
  def fixed(options) do
    access = Map.take(options, @fields)
    unless asked?(access), do: resolve(access)
  end

  @doc "What is to be resolved at each question; nothing, where the native library knows it."
  def source(options) do
    access = Map.take(options, @fields)
    # Behind a function, so that no `inspect` of whoever holds it shows a password.
    if asked?(access), do: fn -> resolve(access) end
  end

  @doc "Answers a question of the native library, in a process of its own: it may take its time."
  def answer(name, source, question) do
    spawn(fn -> Native.answer(question, try_source(name, source)) end)
    :ok
  end

  defp try_source(name, source) do
    source.()
  rescue
    # What an exception says may hold a password.
    error -> failed(name, inspect(error.__struct__))
  catch
    kind, _reason -> failed(name, inspect(kind))
  end

  defp failed(name, how) do
    Logger.error(
      "#{inspect(name)}: the function for :url, :username or :password failed (#{how}) or " <>
        "answered with no string"
    )

    nil
  end

  defp asked?(access), do: Enum.any?([access.url, access.username, access.password], &function?/1)

  defp function?(value), do: is_function(value) or is_tuple(value)

  defp resolve(access) do
    %{
      urls: urls(access),
      username: string!(access.username, :username),
      password: string!(access.password, :password)
    }
  end

  defp urls(%{cluster: [_ | _] = urls}), do: urls
  # The sentinels name the address; the rest of this URL is the default login.
  defp urls(%{sentinel: %{}}), do: ["redis://localhost"]
  defp urls(%{url: url}), do: [string!(url, :url)]

  defp string!(value, name) do
    case call(value) do
      string when is_binary(string) ->
        string

      nil when name != :url ->
        nil

      _ ->
        raise ArgumentError, "expected the function for #{inspect(name)} to answer with a string"
    end
  end

  defp call(function) when is_function(function), do: function.()
  defp call({module, function, arguments}), do: apply(module, function, arguments)
  defp call(value), do: value
end
