defmodule PowRedisCache.Options do
  @moduledoc false
  # The options of an instance, declared once: validation, defaults and documentation come from here.

  @declaration [
    url: [
      type: :url,
      default: "redis://localhost:6379",
      doc:
        "where Redis is: `redis://[[user]:password@]host[:port][/database]`, or " <>
          "`unix:///path/to/socket[?db=…&user=…&pass=…]`."
    ],
    name: [
      type: :name,
      default: PowRedisCache,
      doc: "the name of the instance. A module with `use PowRedisCache` is its own."
    ],
    pool_size: [
      type: :positive,
      default: 2,
      doc: "number of connections, each with a thread."
    ],
    max_queue: [
      type: :positive,
      default: 10_000,
      doc:
        "how many reads, and how many writes, may wait for a connection. One more is " <>
          "refused with `:busy`."
    ],
    timeout: [
      type: :positive,
      default: 5_000,
      doc: "how long a call may take, in milliseconds."
    ],
    connect_timeout: [
      type: :positive,
      default: 5_000,
      doc: "how long connecting may take, in milliseconds."
    ],
    index: [
      type: {:one_of, [true, false]},
      default: true,
      doc:
        "whether to keep the index sets with which `all/2` finds keys, as the current edition " <>
          "of Pow's guide does. With `false`, `all/2` scans all keys of the database, as the " <>
          "first edition did."
    ],
    writes: [
      type: {:one_of, [:sync, :async]},
      default: :sync,
      doc:
        "whether `put/2` and `delete/2` wait for Redis. With `:async` they return at once and " <>
          "keep their order; a failure goes to the log. A call's own `:writes` comes first."
    ],
    decode: [
      type: {:one_of, [:checked, :safe]},
      default: :checked,
      doc:
        "values from Redis are always checked before they become terms. `:safe` also refuses " <>
          "those with atoms that this VM does not know yet; in development, where modules are " <>
          "loaded when first used, that can be your own."
    ],
    default_ttl: [
      type: :ttl,
      default: nil,
      doc:
        "how long a record lives when the call has no `:ttl`, in milliseconds, or `:infinity`. " <>
          "Without it, such a put raises."
    ]
  ]

  @names Keyword.keys(@declaration)

  @doc "All options with defaults filled in; raises `ArgumentError` on a wrong one."
  def validate!(options) do
    unless Keyword.keyword?(options) do
      raise ArgumentError, "expected the options to be a keyword list, got: #{inspect(options)}"
    end

    case Keyword.keys(options) -- @names do
      [] ->
        :ok

      [unknown | _] ->
        raise ArgumentError,
              "unknown option #{inspect(unknown)}, expected one of: " <>
                Enum.map_join(@names, ", ", &inspect/1)
    end

    Map.new(@declaration, fn {name, declared} ->
      value = Keyword.get(options, name, declared[:default])

      unless valid?(declared[:type], value) do
        raise ArgumentError,
              "expected #{inspect(name)} to be #{expected(declared[:type])}, got: " <>
                shown(name, value)
      end

      {name, value}
    end)
  end

  @doc "The options as a Markdown list."
  def docs do
    Enum.map_join(@declaration, "\n", fn {name, declared} ->
      default = inspect(declared[:default])
      "  * `#{inspect(name)}` - #{declared[:doc]} Defaults to `#{default}`."
    end)
  end

  defp valid?(:url, value) when is_binary(value) do
    case URI.new(value) do
      {:ok, %URI{scheme: "redis", host: host}} -> host not in [nil, ""]
      {:ok, %URI{scheme: "unix", path: path}} -> path not in [nil, "", "/"]
      _ -> false
    end
  end

  defp valid?(:name, value), do: is_atom(value) and value not in [nil, true, false]
  defp valid?(:positive, value), do: is_integer(value) and value in 1..1_000_000_000
  defp valid?({:one_of, values}, value), do: value in values
  defp valid?(:ttl, value), do: value in [nil, :infinity] or ttl?(value)
  defp valid?(_type, _value), do: false

  @doc "Whether a value is a time to live in milliseconds."
  def ttl?(value), do: is_integer(value) and value in 1..1_000_000_000_000_000

  defp expected(:url),
    do: ~s(a URL like "redis://:password@localhost:6379/0" or "unix:///run/redis.sock")

  defp expected(:name), do: "an atom"
  defp expected(:positive), do: "a positive integer"
  defp expected(:ttl), do: "a positive integer (milliseconds), :infinity or nil"
  defp expected({:one_of, values}), do: Enum.map_join(values, " or ", &inspect/1)

  # A URL may hold a password.
  defp shown(:url, value) when is_binary(value) do
    case String.split(value, "://", parts: 2) do
      ["rediss", _] -> ~s(a "rediss://" URL; TLS is not supported yet)
      [scheme, _] -> ~s(a "#{scheme}://" URL)
      [_] -> ~s(a string without "://")
    end
  end

  defp shown(:url, _value), do: "something else than a string"
  defp shown(_name, value), do: inspect(value)
end
