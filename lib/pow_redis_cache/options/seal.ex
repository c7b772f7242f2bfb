defmodule PowRedisCache.Options.Seal do
  @moduledoc false
  # The options of :seal.

  alias PowRedisCache.Options.Type
  alias PowRedisCache.SealKeys

  @declaration [
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

  @doc "The declaration of the options."
  def declaration, do: @declaration

  @doc "Returns the options. Whatever is no keyword list is taken for keys."
  def nested(value), do: if(Keyword.keyword?(value), do: value, else: [keys: value])

  @doc "Raises `ArgumentError` if an instance would ignore what it writes."
  def check!(%{write: :plain, plain: :refuse}) do
    raise ArgumentError,
          "expected :plain of :seal to be :accept with write: :plain, got: :refuse, which would " <>
            "ignore what it writes"
  end

  def check!(_seal), do: :ok

  @doc "Computes the keys for the native library: `{:ok, seal}` or `{:error, message}`."
  def resolve(nil), do: {:ok, nil}

  def resolve(%{keys: keys} = seal) do
    case SealKeys.resolve(keys) do
      {:ok, keys} ->
        {:ok, %{seal | keys: keys}}

      {:error, problem} ->
        {:error, "expected :keys of :seal to be #{Type.expected(:seal_keys)}, got: #{problem}"}
    end
  end
end
