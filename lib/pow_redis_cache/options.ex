defmodule PowRedisCache.Options do
  @moduledoc false
  # The options of an instance, declared once: validation, defaults and docs are derived from here.

  alias PowRedisCache.Endpoint

  # The TLS options, which apply to servers and, separately, to sentinels.
  @tls [
    tls: [
      type: {:one_of, [true, false, nil]},
      default: nil,
      doc:
        "whether to use TLS. Overrides the scheme of the URL: `rediss://` uses TLS, `redis://` does not."
    ],
    verify: [
      type: {:one_of, [:verify_peer, :verify_none]},
      default: :verify_peer,
      doc:
        "whether to verify the server's certificate. `:verify_none` accepts any certificate, so " <>
          "that a man-in-the-middle can impersonate Redis. Heroku's self-signed certificates need it."
    ],
    cacertfile: [
      type: :path,
      default: nil,
      doc: "a PEM file with the trusted certificate authorities, instead of the system's."
    ],
    certfile: [
      type: :path,
      default: nil,
      doc: "a PEM file with the client certificate, if the server requires one."
    ],
    keyfile: [type: :path, default: nil, doc: "a PEM file with the private key of `:certfile`."]
  ]

  @sentinel [
              sentinels: [type: :urls, default: nil, doc: "the sentinels' URLs."],
              group: [
                type: :string,
                default: nil,
                doc: "the name of the monitored primary, for example `\"mymaster\"`."
              ],
              username: [
                type: :maybe_string,
                default: nil,
                doc: "the username for the sentinels."
              ],
              password: [
                type: :maybe_string,
                default: nil,
                doc: "the password for the sentinels."
              ]
            ] ++ @tls

  @declaration [
                 url: [
                   type: :url,
                   default: "redis://localhost:6379",
                   doc:
                     "the URL of Redis: `redis://[[user]:password@]host[:port][/database]`, " <>
                       "`rediss://…` for TLS, or `unix:///path/to/socket[?db=…&user=…&pass=…]`. " <>
                       "A function without arguments or `{module, function, arguments}` is " <>
                       "called on each connect."
                 ],
                 sentinel: [
                   type: :sentinel,
                   default: nil,
                   doc:
                     "connects to the primary that Redis Sentinel reports, instead of `:url`: " <>
                       "`[sentinels: [url, …], group: \"mymaster\"]`. Also takes `:username`, " <>
                       "`:password` and the TLS options for the sentinels."
                 ],
                 cluster: [
                   type: :maybe_urls,
                   default: nil,
                   doc: "a list of URLs of nodes of a Redis Cluster, instead of `:url`."
                 ],
                 username: [
                   type: :secret,
                   default: nil,
                   doc: "the username, overrides the URL's. May be a function, like `:url`."
                 ],
                 password: [
                   type: :secret,
                   default: nil,
                   doc: "the password, overrides the URL's. May be a function, like `:url`."
                 ],
                 database: [
                   type: :database,
                   default: nil,
                   doc: "the database number, overrides the URL's."
                 ]
               ] ++
                 @tls ++
                 [
                   name: [
                     type: :name,
                     default: PowRedisCache,
                     doc:
                       "the name of the instance. A module with `use PowRedisCache` sets its own name."
                   ],
                   pool_size: [
                     type: :positive,
                     default: 2,
                     doc: "the number of connections. Each has its own thread."
                   ],
                   max_queue: [
                     type: :positive,
                     default: 10_000,
                     doc:
                       "the maximum number of queued reads, and of queued writes. Further calls fail " <>
                         "with `:busy`."
                   ],
                   max_queue_bytes: [
                     type: :positive,
                     default: 64 * 1_024 * 1_024,
                     doc:
                       "the maximum number of bytes of pending reads, and of pending writes: their " <>
                         "keys, values and index entries. Further calls fail with `:busy`. A larger " <>
                         "write is accepted while no other is pending."
                   ],
                   timeout: [
                     type: :positive,
                     default: 5_000,
                     doc: "the timeout of a call, in milliseconds."
                   ],
                   connect_timeout: [
                     type: :positive,
                     default: 5_000,
                     doc: "the timeout of a connect, in milliseconds."
                   ],
                   index: [
                     type: {:one_of, [true, false]},
                     default: true,
                     doc:
                       "whether to maintain the index sets that `all/2` looks keys up in, like v2 " <>
                         "of Pow's example backend. With `false`, `all/2` scans all keys of the " <>
                         "database, like v1."
                   ],
                   writes: [
                     type: {:one_of, [:sync, :async]},
                     default: :sync,
                     doc:
                       "whether `put/2` and `delete/2` wait for Redis. With `:async` they return " <>
                         "immediately, Redis receives them in order, and failures are logged. " <>
                         "`:writes` of a call overrides this."
                   ],
                   on_error: [
                     type: {:one_of, [:raise, :miss]},
                     default: :raise,
                     doc:
                       "what `get/2` and `all/2` do if Redis fails: raise, or return `:not_found` " <>
                         "and `[]` and log an error."
                   ],
                   decode: [
                     type: {:one_of, [:checked, :safe]},
                     default: :checked,
                     doc:
                       "values from Redis are always validated before they are decoded. `:safe` " <>
                         "also rejects values with atoms that do not exist in this VM. Use it in " <>
                         "releases only: `mix` loads modules lazily, so that atoms of your app may " <>
                         "not exist yet."
                   ],
                   default_ttl: [
                     type: :ttl,
                     default: nil,
                     doc:
                       "the TTL of a put without `:ttl`, in milliseconds, or `:infinity`. With " <>
                         "`nil`, such a put raises."
                   ]
                 ]

  @doc "Returns all options with their defaults. Raises `ArgumentError` if an option is invalid."
  def validate!(options) do
    valid = validate!(options, @declaration, nil)

    case Enum.filter([:url, :sentinel, :cluster], &Keyword.has_key?(options, &1)) do
      several when length(several) > 1 ->
        raise ArgumentError,
              "expected one of :url, :sentinel and :cluster, got: #{inspect(several)}"

      _ ->
        :ok
    end

    if valid.cluster && not valid.index do
      raise ArgumentError,
            "expected :index to be true with :cluster: without the index, all/2 would have to scan " <>
              "all nodes"
    end

    both_or_none!(valid)
    if valid.sentinel, do: both_or_none!(valid.sentinel)
    valid
  end

  # Validates the options, or the nested options of one option.
  defp validate!(options, declaration, option) do
    unless Keyword.keyword?(options) do
      raise ArgumentError, "expected the options to be a keyword list, got: #{inspect(options)}"
    end

    of = if option, do: " of #{inspect(option)}", else: ""

    names = Keyword.keys(declaration)

    case Keyword.keys(options) -- names do
      [] ->
        :ok

      [unknown | _] ->
        raise ArgumentError,
              "unknown option #{inspect(unknown)}#{of}, expected one of: " <>
                Enum.map_join(names, ", ", &inspect/1)
    end

    Map.new(declaration, fn {name, declared} ->
      value = Keyword.get(options, name, declared[:default])

      unless valid?(declared[:type], value) do
        raise ArgumentError,
              "expected #{inspect(name)}#{of} to be #{expected(declared[:type])}, got: " <>
                shown(declared[:type], value)
      end

      {name, expand(declared[:type], value)}
    end)
  end

  defp expand(:sentinel, options) when is_list(options) do
    validate!(options, @sentinel, :sentinel)
  end

  defp expand(_type, value), do: value

  defp both_or_none!(%{certfile: certificate, keyfile: key}) do
    if is_nil(certificate) != is_nil(key) do
      raise ArgumentError, "expected :certfile and :keyfile together, got only one of them"
    end
  end

  @doc "Returns `:standalone`, `:sentinel` or `:cluster`."
  def topology(%{sentinel: %{}}), do: :sentinel
  def topology(%{cluster: [_ | _]}), do: :cluster
  def topology(_options), do: :standalone

  @doc "Converts validated options for the native library."
  def to_native(options) do
    sentinel = options.sentinel || %{sentinels: [], group: nil}

    options
    |> Map.take([:database, :tls, :index, :decode])
    |> Map.merge(Map.take(options, [:pool_size, :max_queue, :max_queue_bytes]))
    |> Map.merge(Map.take(options, [:timeout, :connect_timeout]))
    |> Map.merge(%{
      credentials: Endpoint.credentials(options),
      topology: topology(options),
      tls_config: tls_config(options),
      sentinels: Enum.map(sentinel.sentinels, &sentinel_to_native(&1, sentinel)),
      group: sentinel.group
    })
  end

  defp sentinel_to_native(url, options) do
    options
    |> Map.take([:username, :password, :tls])
    |> Map.merge(%{url: url, tls_config: tls_config(options)})
  end

  defp tls_config(options) do
    options
    |> Map.take([:cacertfile, :certfile, :keyfile])
    |> Map.put(:verify, options.verify == :verify_peer)
  end

  @doc "Returns the docs of the options as a Markdown list."
  def docs do
    Enum.map_join(@declaration, "\n", fn {name, declared} ->
      default = inspect(declared[:default])
      "  * `#{inspect(name)}` - #{declared[:doc]} Defaults to `#{default}`."
    end)
  end

  defp valid?(:url, value) when is_binary(value), do: url?(value, ["redis", "rediss", "unix"])
  defp valid?(:url, value), do: function?(value)
  defp valid?(:maybe_urls, value), do: is_nil(value) or valid?(:urls, value)

  defp valid?(:urls, value) do
    is_list(value) and value != [] and
      Enum.all?(value, &(is_binary(&1) and url?(&1, ["redis", "rediss"])))
  end

  defp valid?(:secret, value), do: valid?(:maybe_string, value) or function?(value)
  defp valid?(:maybe_string, value), do: is_nil(value) or valid?(:string, value)
  defp valid?(:string, value), do: is_binary(value) and value != ""
  defp valid?(:path, value), do: valid?(:maybe_string, value)
  defp valid?(:database, value), do: is_nil(value) or (is_integer(value) and value in 0..65_535)
  defp valid?(:sentinel, value), do: is_nil(value) or Keyword.keyword?(value)
  defp valid?(:name, value), do: is_atom(value) and value not in [nil, true, false]
  defp valid?(:positive, value), do: is_integer(value) and value in 1..1_000_000_000
  defp valid?({:one_of, values}, value), do: value in values
  defp valid?(:ttl, value), do: value in [nil, :infinity] or ttl?(value)

  defp url?(value, schemes) do
    case URI.new(value) do
      {:ok, %URI{scheme: "unix", path: path}} -> "unix" in schemes and path not in [nil, "", "/"]
      {:ok, %URI{scheme: scheme, host: host}} -> scheme in schemes and host not in [nil, ""]
      {:error, _part} -> false
    end
  end

  defp function?({module, function, arguments}) do
    is_atom(module) and is_atom(function) and is_list(arguments)
  end

  defp function?(value), do: is_function(value, 0)

  @doc "Whether a value is a TTL in milliseconds."
  def ttl?(value), do: is_integer(value) and value in 1..1_000_000_000_000_000

  defp expected(:url) do
    ~s(a URL like "redis://:password@localhost:6379/0" or "unix:///run/redis.sock", or a function)
  end

  defp expected(:urls), do: ~s(a list of URLs like "redis://localhost:6379")
  defp expected(:maybe_urls), do: expected(:urls)
  defp expected(:secret), do: "a string or a function"
  defp expected(:string), do: "a string"
  defp expected(:maybe_string), do: "a string"
  defp expected(:path), do: "a file path"
  defp expected(:database), do: "a database number"
  defp expected(:sentinel), do: "a keyword list with :sentinels and :group"
  defp expected(:name), do: "an atom"
  defp expected(:positive), do: "a positive integer"
  defp expected(:ttl), do: "a positive integer (milliseconds), :infinity or nil"
  defp expected({:one_of, values}), do: Enum.map_join(values, " or ", &inspect/1)

  # Never shows a value that may hold a password.
  defp shown(:url, value) when is_binary(value) do
    case String.split(value, "://", parts: 2) do
      [scheme, _] -> ~s(a "#{scheme}://" URL)
      [_] -> ~s(a string without "://")
    end
  end

  defp shown(type, _value) when type in [:url, :urls, :maybe_urls, :secret, :sentinel] do
    "another value"
  end

  defp shown(_type, value), do: inspect(value)
end
