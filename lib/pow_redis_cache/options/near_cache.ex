defmodule PowRedisCache.Options.NearCache do
  @moduledoc false
  # The options of :near_cache.

  alias PowRedisCache.Shape

  # Those of Pow's extensions whose records are good for one use.
  @one_time_namespaces ["persistent_session", "reset_token"]

  @declaration [
    max_bytes: [
      type: {:integer, 1_048_576..1_099_511_627_776},
      default: 64 * 1_024 * 1_024,
      doc: "the maximum memory of the records, in bytes."
    ],
    namespaces: [
      type: :namespaces,
      default: ["credentials"],
      doc:
        "the namespaces, strings or atoms, whose records are kept: that of Pow's sessions and users. " <>
          "One-time tokens have to be read from Redis, and their namespaces are refused."
    ],
    max_staleness: [
      type: {:integer, 50..60_000},
      default: 1_000,
      doc: "how long a record may be out of date if the network fails, in milliseconds."
    ]
  ]

  @doc "The declaration of the options."
  def declaration, do: @declaration

  @doc "Converts validated options for the native library."
  def to_native(false), do: nil
  def to_native(options), do: Map.take(options, [:max_staleness])

  @doc "Returns what is wrong with a namespace, or nil."
  def namespace_problem(namespace) when namespace in @one_time_namespaces do
    "#{inspect(namespace)}, whose records are one-time tokens. Each has to be read from Redis"
  end

  def namespace_problem(namespace) when is_list(namespace) do
    "a list. Claims have such namespaces, and have to be read from Redis"
  end

  def namespace_problem(namespace) when is_binary(namespace), do: nil

  def namespace_problem(namespace)
      when is_atom(namespace) and namespace not in [nil, true, false],
      do: nil

  def namespace_problem(other), do: Shape.of(other)
end
