defmodule PowRedisCache.Options.Type do
  @moduledoc false
  # The types of options: what is expected of a value, and what is wrong with it.

  alias PowRedisCache.{SealKeys, Shape, Url}
  alias PowRedisCache.Options.{Index, NearCache}

  @tls_versions [:"tlsv1.2", :"tlsv1.3"]

  # Labels of letters, digits, `_` and inner `-`. The last one is no number.
  @label "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"

  @doc "Returns what is wrong with a value, or nil. Never shows a value that may hold a password."
  def problem(:url, value) when is_binary(value) and value != "" do
    with {:ok, _server} <- Url.parse(value), do: nil, else: ({:error, problem} -> problem)
  end

  def problem(:maybe_urls, nil), do: nil
  def problem(:maybe_urls, value), do: problem(:urls, value)

  def problem(:urls, value), do: problem_of_elements(value, &url_problem/1)

  def problem(:index, value) when value in [:sessions, true, false], do: nil
  def problem(:index, value), do: problem_of_elements(value, &Index.pattern_problem/1)

  def problem(:namespaces, value), do: problem_of_elements(value, &NearCache.namespace_problem/1)

  def problem(:tls_versions, value) do
    problem_of_elements(value, &if(&1 not in @tls_versions, do: "none of them"))
  end

  def problem(:seal_keys, value), do: SealKeys.problem(value)

  def problem(type, value) do
    unless valid?(type, value), do: shown(type, value)
  end

  @doc "Returns what is expected of a value."
  def expected(:url) do
    ~s(a URL like "redis://:password@localhost:6379/0" or "unix:///run/redis.sock", or a function)
  end

  def expected(:urls), do: ~s(a list of URLs like "redis://localhost:6379")
  def expected(:maybe_urls), do: expected(:urls)
  def expected(:secret), do: "a string or a function"
  def expected(type) when type in [:string, :text], do: "a string"
  def expected(:maybe_string), do: "a string"
  def expected(:path), do: "a file path"
  def expected(:server_name), do: "a host name or an IP address"
  def expected(:tls_versions), do: ~s(a list with :"tlsv1.2", :"tlsv1.3" or both)

  def expected(:index) do
    ":sessions, true, false or a list of patterns like [:_, :user, :_, :session, :_]"
  end

  def expected(:seal_keys) do
    "keys as mix pow_redis_cache.gen.key prints them, a list of {id, key}, or a function"
  end

  def expected(:database), do: "a database number"
  def expected(:sentinel), do: "a keyword list with :sentinels and :group"

  def expected(:near_cache) do
    "true, false or a keyword list with :max_bytes, :namespaces and :max_staleness"
  end

  def expected(:namespaces), do: ~s(a list of strings or atoms like ["credentials"])

  def expected({:integer, first..last//_step}), do: "an integer from #{first} to #{last}"
  def expected(:name), do: "an atom"
  def expected(:positive), do: "a positive integer"
  def expected(:ttl), do: "a positive integer (milliseconds), :infinity or nil"
  def expected({:one_of, values}), do: Enum.map_join(values, " or ", &inspect/1)

  @doc "Whether a value is a TTL in milliseconds."
  def ttl?(value), do: is_integer(value) and value in 1..1_000_000_000_000_000

  defp problem_of_elements(value, problem) do
    if value != [] and Shape.list?(value) do
      value |> Enum.with_index(1) |> Enum.find_value(&problem_of_element(&1, problem))
    else
      Shape.of(value)
    end
  end

  defp problem_of_element({element, position}, problem) do
    if problem = problem.(element), do: "a list in which element #{position} is #{problem}"
  end

  defp url_problem(url) do
    case is_binary(url) && Url.parse(url) do
      {:ok, %{address: {_host, _port}}} -> nil
      {:ok, _unix} -> "a unix:// URL"
      {:error, problem} -> problem
      false -> Shape.of(url)
    end
  end

  defp valid?(:url, value), do: Shape.callable?(value)
  defp valid?(:secret, value), do: valid?(:maybe_string, value) or Shape.callable?(value)
  defp valid?(:maybe_string, value), do: is_nil(value) or valid?(:string, value)
  defp valid?(:string, value), do: is_binary(value) and value != ""
  defp valid?(:text, value), do: valid?(:string, value) and String.valid?(value)

  defp valid?(:path, value) do
    is_nil(value) or (valid?(:string, value) and not String.contains?(value, <<0>>))
  end

  defp valid?(:server_name, value) do
    is_nil(value) or (valid?(:text, value) and (ip_address?(value) or host_name?(value)))
  end

  defp valid?(:database, value), do: is_nil(value) or (is_integer(value) and value in 0..65_535)
  defp valid?(:sentinel, value), do: is_nil(value) or Keyword.keyword?(value)
  defp valid?(:near_cache, value), do: is_boolean(value) or Keyword.keyword?(value)

  # Whatever is no keyword list is taken for keys.
  defp valid?(:seal, _value), do: true
  defp valid?(:name, value), do: is_atom(value) and value not in [nil, true, false]
  defp valid?(:positive, value), do: is_integer(value) and value in 1..1_000_000_000
  defp valid?({:integer, range}, value), do: is_integer(value) and value in range
  defp valid?({:one_of, values}, value), do: value in values
  defp valid?(:ttl, value), do: value in [nil, :infinity] or ttl?(value)

  defp host_name?(text) do
    text =~ ~r/\A(?=.{1,253}\z)(?:#{@label}\.)*(?!(?:\d+|0x[0-9a-f]*)\z)#{@label}\z/i
  end

  # Without a zone, which no certificate names.
  defp ip_address?(text) do
    not String.contains?(text, ["%", <<0>>]) and
      match?({:ok, _address}, :inet.parse_strict_address(String.to_charlist(text)))
  end

  defp shown(:text, value) when is_binary(value) and value != "", do: "a string that is not UTF-8"

  defp shown(:server_name, value) when is_binary(value) and value != "" do
    "a string that is neither"
  end

  defp shown(:path, value) when is_binary(value) and value != "" do
    "a string with a NUL byte"
  end

  # Atoms and numbers where no password is expected.
  defp shown(type, value)
       when (is_atom(value) or is_integer(value)) and
              type not in [
                :url,
                :secret,
                :sentinel,
                :text,
                :path,
                :server_name,
                :maybe_string,
                :string
              ] do
    inspect(value)
  end

  defp shown(_type, value), do: Shape.of(value)
end
