defmodule PowRedisCache.Staleness.Reader do
  @moduledoc """
  Reads keys through an instance, and records what it gets. Successive reads of the same value are recorded
  together.
  """

  alias PowRedisCache.{Error, Staleness.History}

  # Absent keys have no number that tells their states apart, so they are recorded at least that often, in
  # microseconds.
  @absent 100_000

  defstruct [:history, :instance, open: %{}]

  @type t :: %__MODULE__{}

  @doc """
  A reader of an instance, which has a `:number`, and a function for each of `:get`, `:all`, `:put`,
  `:put_new` and `:delete`.
  """
  def new(history, instance), do: %__MODULE__{history: history, instance: instance}

  @doc "Reads a key. A failed read is not recorded."
  @spec get(t(), term()) :: t()
  def get(reader, key) do
    from = History.now()

    try do
      reader.instance.get.(key)
    rescue
      Error -> reader
    else
      value -> add(reader, key, number(value), from, History.now())
    end
  end

  @doc "Lists the keys. Keys that are missing in the list are not recorded: it has only indexed ones."
  @spec list(t()) :: t()
  def list(reader) do
    from = History.now()

    try do
      reader.instance.all.()
    rescue
      Error -> reader
    else
      records ->
        to = History.now()

        for {key, value} <- records, reduce: reader do
          reader -> add(reader, key, number(value), from, to)
        end
    end
  end

  @doc "Records what is open."
  @spec close(t()) :: :ok
  def close(reader) do
    for {_key, reads} <- reader.open, do: History.record(reader.history, :reads, reads)
    :ok
  end

  defp number(:not_found), do: :absent
  defp number({number, _padding}), do: number

  defp add(reader, key, value, from, to) do
    case reader.open do
      %{^key => %{value: ^value} = reads}
      when value != :absent or from - reads.first_from < @absent ->
        put_open(reader, %{reads | last_from: from, last_to: to, count: reads.count + 1})

      %{^key => reads} ->
        History.record(reader.history, :reads, reads)
        put_open(reader, first(reader, key, value, from, to))

      _new ->
        put_open(reader, first(reader, key, value, from, to))
    end
  end

  defp put_open(reader, reads), do: %{reader | open: Map.put(reader.open, reads.key, reads)}

  defp first(reader, key, value, from, to) do
    %{
      key: key,
      value: value,
      instance: reader.instance.number,
      first_from: from,
      first_to: to,
      last_from: from,
      last_to: to,
      count: 1
    }
  end
end
