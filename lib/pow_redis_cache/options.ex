defmodule PowRedisCache.Options do
  @moduledoc false
  # The options of an instance, declared once: validation, defaults and docs are derived from here.

  alias PowRedisCache.{Endpoint, Shape}
  alias PowRedisCache.Options.{Index, NearCache, Seal, Type}

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
    server_name: [
      type: :server_name,
      default: nil,
      doc:
        "the host name or IP address that the server's certificate has to name, instead of the host " <>
          "in the URL: for a server that is reached by an IP address, a tunnel or Sentinel. Also sent " <>
          "as SNI. All nodes of a Cluster have the same name."
    ],
    tls_versions: [
      type: :tls_versions,
      default: [:"tlsv1.2", :"tlsv1.3"],
      doc: "the versions of TLS to offer."
    ],
    cacertfile: [
      type: :path,
      default: nil,
      doc:
        "a PEM file with the trusted certificate authorities, instead of the system's. This file and " <>
          "the next two are read at each connect, so that renewed ones need no restart."
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
                type: :text,
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
                       "Other query parts are refused. In the user and password, percent-encode " <>
                       "all but letters, digits and `-._~`, as " <>
                       "`URI.encode(password, &URI.char_unreserved?/1)` does, or use `:username` " <>
                       "and `:password`. `valkey://` and `valkeys://` mean the same. A function " <>
                       "without arguments or `{module, function, arguments}` is called on each " <>
                       "connect."
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
                   doc:
                     "the username, overrides the URL's. May be a function, like `:url`. Without a " <>
                       "password, the login has an empty one."
                 ],
                 password: [
                   type: :secret,
                   default: nil,
                   doc:
                     "the password, any bytes; overrides the URL's. May be a function, like `:url`."
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
                     type: :index,
                     default: :sessions,
                     doc:
                       "which lookups by `all/2` are fast. `:sessions`: those of a user's sessions " <>
                         "and tokens, all that Pow asks for. `true`: all with literal leading parts, " <>
                         "like v2 of Pow's example backend, at 2.6 times the memory. `false`: none, " <>
                         "like v1. Or a list of patterns of keys that end with `:_`, such as " <>
                         "`[[:_, :user, :_, :session, :_]]`. For other matches, `all/2` scans all " <>
                         "keys of the database. After a change, run `mix pow_redis_cache.reindex`."
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
                   near_cache: [
                     type: :near_cache,
                     default: false,
                     doc:
                       "whether `get/2` keeps records in memory until Redis reports a change, see " <>
                         "[Near cache](#module-near-cache). `true`, or a keyword list that overrides " <>
                         "its defaults.",
                     nested: NearCache.declaration()
                   ],
                   seal: [
                     type: :seal,
                     default: nil,
                     doc:
                       "encrypts values, so that who reads or writes Redis can neither read nor " <>
                         "make sessions: one or more keys as `mix pow_redis_cache.gen.key` prints " <>
                         "them, such as `\"2026-12:…,2026-11:…\"`. The first one seals, all of them " <>
                         "open. Or `[keys: keys, write: :seal, plain: :accept]`: `write: :plain` " <>
                         "only opens sealed values, `plain: :refuse` ignores others. Keys may also " <>
                         "be a list of `{id, key}`, each key 32 bytes or base64. Keys, and each key " <>
                         "in a list, may be a function, like `:url`, which is called at the start. " <>
                         "Follow the steps in the guide [Sealed values](guides/sealing.md)."
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

    Seal.check!(valid.seal)
    both_or_none!(valid)
    if valid.sentinel, do: both_or_none!(valid.sentinel)
    valid
  end

  # Validates the options, or the nested options of one option.
  defp validate!(options, declaration, option) do
    unless Keyword.keyword?(options) do
      raise ArgumentError, "expected the options to be a keyword list, got: #{Shape.of(options)}"
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

      if problem = Type.problem(declared[:type], value) do
        raise ArgumentError,
              "expected #{inspect(name)}#{of} to be #{Type.expected(declared[:type])}, got: #{problem}"
      end

      {name, expand(declared[:type], value)}
    end)
  end

  defp expand(:sentinel, options) when is_list(options) do
    validate!(options, @sentinel, :sentinel)
  end

  defp expand(:near_cache, true), do: expand(:near_cache, [])

  defp expand(:near_cache, options) when is_list(options) do
    validate!(options, NearCache.declaration(), :near_cache)
  end

  defp expand(:seal, nil), do: nil

  defp expand(:seal, value) do
    value |> Seal.nested() |> validate!(Seal.declaration(), :seal)
  end

  defp expand(_type, value), do: value

  defp both_or_none!(%{certfile: certificate, keyfile: key}) do
    if is_nil(certificate) != is_nil(key) do
      raise ArgumentError, "expected :certfile and :keyfile together, got only one of them"
    end
  end

  @doc "Sets the name of an instance. Leaves what is no keyword list for `validate!/1` to refuse."
  def named(options, name) do
    if Keyword.keyword?(options), do: Keyword.put(options, :name, name), else: options
  end

  @doc "Returns `:standalone`, `:sentinel` or `:cluster`."
  def topology(%{sentinel: %{}}), do: :sentinel
  def topology(%{cluster: [_ | _]}), do: :cluster
  def topology(_options), do: :standalone

  @doc "Converts validated options for the native library."
  def to_native(options) do
    options
    |> Map.take([:pool_size, :max_queue, :max_queue_bytes, :timeout, :connect_timeout])
    |> Map.merge(%{
      decode: options.decode,
      seal: nil,
      index: Index.to_native(options.index),
      endpoints: Endpoint.fixed(options),
      topology: topology(options),
      sentinels: Endpoint.sentinels(options.sentinel),
      group: options.sentinel && options.sentinel.group,
      near_cache: NearCache.to_native(options.near_cache)
    })
  end

  @doc "Returns the docs of the options as a Markdown list."
  def docs, do: docs(@declaration, "  ")

  defp docs(declaration, indent) do
    Enum.map_join(declaration, "\n", fn {name, declared} ->
      default = inspect(declared[:default])
      line = "#{indent}* `#{inspect(name)}` - #{declared[:doc]} Defaults to `#{default}`."
      nested = docs(Keyword.get(declared, :nested, []), indent <> "  ")
      Enum.join([line | List.wrap(if nested != "", do: nested)], "\n")
    end)
  end
end
