defmodule PowRedisCache.Options do
  @moduledoc false
  # The options of an instance, declared once: validation, defaults and docs are derived from here.

  alias PowRedisCache.{Endpoint, SealKeys, Shape, Url}

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

  @tls_versions [:"tlsv1.2", :"tlsv1.3"]

  # Labels of letters, digits, `_` and inner `-`. The last one is no number.
  @label "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"

  # What Pow asks for: the sessions of a user, and the tokens of persistent sessions.
  @sessions [[:_, :user, :_, :session, :_], [:_, :user, :_, :token, :_]]
  # Without the namespace.
  @max_parts 64

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

  @seal [
    keys: [type: :seal_keys, default: nil, doc: "the keys, see the guide on sealing."],
    write: [
      type: {:one_of, [:seal, :plain]},
      default: :seal,
      doc: "whether values are written sealed, with the first key."
    ],
    plain: [
      type: {:one_of, [:accept, :refuse]},
      default: :accept,
      doc: "whether values that are not sealed are returned, or ignored."
    ]
  ]

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

    writes_what_it_reads!(valid.seal)
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

      if problem = problem(declared[:type], value) do
        raise ArgumentError,
              "expected #{inspect(name)}#{of} to be #{expected(declared[:type])}, got: #{problem}"
      end

      {name, expand(declared[:type], value)}
    end)
  end

  defp expand(:sentinel, options) when is_list(options) do
    validate!(options, @sentinel, :sentinel)
  end

  defp expand(:seal, nil), do: nil

  defp expand(:seal, value) do
    options = if Keyword.keyword?(value), do: value, else: [keys: value]
    validate!(options, @seal, :seal)
  end

  defp expand(_type, value), do: value

  defp writes_what_it_reads!(%{write: :plain, plain: :refuse}) do
    raise ArgumentError,
          "expected :plain of :seal to be :accept with write: :plain, got: :refuse, which would " <>
            "ignore what it writes"
  end

  defp writes_what_it_reads!(_seal), do: :ok

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
      index: index(options.index),
      endpoints: Endpoint.fixed(options),
      topology: topology(options),
      sentinels: Endpoint.sentinels(options.sentinel),
      group: options.sentinel && options.sentinel.group
    })
  end

  @doc "Computes the keys of `:seal` for the native library: `{:ok, seal}` or `{:error, message}`."
  def resolve_seal(nil), do: {:ok, nil}

  def resolve_seal(%{keys: keys} = seal) do
    case SealKeys.resolve(keys) do
      {:ok, keys} ->
        {:ok, %{seal | keys: keys}}

      {:error, problem} ->
        {:error, "expected :keys of :seal to be #{expected(:seal_keys)}, got: #{problem}"}
    end
  end

  defp index(:sessions), do: index(@sessions)
  defp index(true), do: :every_prefix
  defp index(false), do: []
  defp index(patterns), do: Enum.map(patterns, &:erlang.term_to_binary/1)

  @doc "Returns the docs of the options as a Markdown list."
  def docs do
    Enum.map_join(@declaration, "\n", fn {name, declared} ->
      default = inspect(declared[:default])
      "  * `#{inspect(name)}` - #{declared[:doc]} Defaults to `#{default}`."
    end)
  end

  # What is wrong with a value, or nil. Never shows a value that may hold a password.
  defp problem(:url, value) when is_binary(value) and value != "" do
    with {:ok, _server} <- Url.parse(value), do: nil, else: ({:error, problem} -> problem)
  end

  defp problem(:maybe_urls, nil), do: nil
  defp problem(:maybe_urls, value), do: problem(:urls, value)

  defp problem(:urls, value) do
    if value != [] and Shape.list?(value) do
      value |> Enum.with_index(1) |> Enum.find_value(&element_problem/1)
    else
      Shape.of(value)
    end
  end

  defp problem(:index, value) when value in [:sessions, true, false], do: nil

  defp problem(:index, value) do
    if value != [] and Shape.list?(value) do
      value |> Enum.with_index(1) |> Enum.find_value(&pattern_problem/1)
    else
      Shape.of(value)
    end
  end

  defp problem(:tls_versions, value) do
    if value != [] and Shape.list?(value) do
      position = Enum.find_index(value, &(&1 not in @tls_versions))
      if position, do: "a list in which element #{position + 1} is none of them"
    else
      Shape.of(value)
    end
  end

  defp problem(:seal_keys, value), do: SealKeys.problem(value)

  defp problem(type, value) do
    unless valid?(type, value), do: shown(type, value)
  end

  defp element_problem({url, position}) do
    case is_binary(url) && Url.parse(url) do
      {:ok, %{address: {_host, _port}}} -> nil
      {:ok, _unix} -> "a list in which element #{position} is a unix:// URL"
      {:error, problem} -> "a list in which element #{position} is #{problem}"
      false -> "a list in which element #{position} is #{Shape.of(url)}"
    end
  end

  defp pattern_problem({pattern, position}) do
    problem =
      cond do
        pattern == [] or not Shape.list?(pattern) -> Shape.of(pattern)
        List.last(pattern) != :_ -> "a list that does not end with :_"
        length(pattern) > @max_parts -> "a list of more than #{@max_parts} parts"
        true -> pattern |> Enum.find(&(not pattern_part?(&1))) |> part_problem()
      end

    if problem, do: "a list in which element #{position} is #{problem}"
  end

  defp pattern_part?(part) when is_atom(part), do: not String.starts_with?("#{part}", "$")
  defp pattern_part?(part), do: is_binary(part) or is_number(part)

  defp part_problem(nil), do: nil
  defp part_problem(part) when is_atom(part), do: "a list with the variable #{inspect(part)}"

  defp part_problem(part),
    do: "a list with #{Shape.of(part)} instead of an atom, a string or a number"

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

  # Whatever is no keyword list is taken for keys.
  defp valid?(:seal, _value), do: true
  defp valid?(:name, value), do: is_atom(value) and value not in [nil, true, false]
  defp valid?(:positive, value), do: is_integer(value) and value in 1..1_000_000_000
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

  @doc "Whether a value is a TTL in milliseconds."
  def ttl?(value), do: is_integer(value) and value in 1..1_000_000_000_000_000

  defp expected(:url) do
    ~s(a URL like "redis://:password@localhost:6379/0" or "unix:///run/redis.sock", or a function)
  end

  defp expected(:urls), do: ~s(a list of URLs like "redis://localhost:6379")
  defp expected(:maybe_urls), do: expected(:urls)
  defp expected(:secret), do: "a string or a function"
  defp expected(type) when type in [:string, :text], do: "a string"
  defp expected(:maybe_string), do: "a string"
  defp expected(:path), do: "a file path"
  defp expected(:server_name), do: "a host name or an IP address"
  defp expected(:tls_versions), do: ~s(a list with :"tlsv1.2", :"tlsv1.3" or both)

  defp expected(:index) do
    ":sessions, true, false or a list of patterns like [:_, :user, :_, :session, :_]"
  end

  defp expected(:seal_keys) do
    "keys as mix pow_redis_cache.gen.key prints them, a list of {id, key}, or a function"
  end

  defp expected(:database), do: "a database number"
  defp expected(:sentinel), do: "a keyword list with :sentinels and :group"
  defp expected(:name), do: "an atom"
  defp expected(:positive), do: "a positive integer"
  defp expected(:ttl), do: "a positive integer (milliseconds), :infinity or nil"
  defp expected({:one_of, values}), do: Enum.map_join(values, " or ", &inspect/1)

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
