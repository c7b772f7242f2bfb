defmodule PowRedisCache.NearCache do
  @moduledoc false
  # The records that an instance keeps in memory. ETS has the records, and the native library knows whether
  # a record is valid. An invalid one is not removed: it takes memory until its table is emptied.
  #
  # There are two generations, as in Nebulex (https://hexdocs.pm/nebulex/Nebulex.Adapters.Local.html). New
  # entries go to the younger, and so do those of the older that are read. When the younger takes half of
  # `max_bytes`, the owner of the instance swaps: the younger becomes the older, an empty table the younger,
  # and the table of the older is emptied. Three tables take turns, so that no reader waits for that.
  # Each namespace has its own three: keys are then shorter, and faster to find.
  #
  # An entry is {key, value, shard, version, epoch, expires_at, memory}.

  alias PowRedisCache.Native

  @enforce_keys [
    :handle,
    :valid?,
    :owner,
    :namespaces,
    :generations,
    :counts,
    :max_table_bytes,
    :max_entry_bytes
  ]
  defstruct @enforce_keys

  # Of `generations`: the number of the younger one, and of the latest that was reported as full.
  @younger 1
  @full 2

  # Of `counts`. The bytes that the values of each turn take outside of its tables follow. The native library
  # counts the hits, which is faster.
  @misses 1
  @swaps 2
  @outside 3

  @turns 3

  # How many entries of the largest size fit.
  @min_entries 64

  @word_bytes :erlang.system_info(:wordsize)

  @doc """
  Makes an empty cache, which belongs to the calling process. `valid?` is called with `handle` and what an
  entry is stamped with: a shard, its version, an epoch, and when it expires.
  """
  def new(handle, options, valid? \\ &Native.near_valid/5) do
    generations = :atomics.new(2, signed: false)
    # So that no number is that of a full one.
    :atomics.put(generations, @younger, @turns)

    %__MODULE__{
      handle: handle,
      valid?: valid?,
      owner: self(),
      namespaces: Map.new(options.namespaces, &{&1, new_tables()}),
      generations: generations,
      counts: :counters.new(@outside + @turns, [:write_concurrency]),
      max_table_bytes: div(options.max_bytes, 2),
      max_entry_bytes: div(options.max_bytes, @min_entries)
    }
  end

  defp new_tables, do: List.to_tuple(for _ <- 1..@turns, do: new_table())

  defp new_table do
    # With one lock. Those of `read_concurrency` and `write_concurrency` take longer, and a hit is little more
    # than a lookup.
    :ets.new(__MODULE__, [:public])
  end

  @doc "Whether the records of a namespace are kept."
  def keeps?(nil, _namespace), do: false
  def keeps?(%{namespaces: namespaces}, namespace), do: is_map_key(namespaces, namespace)

  @doc """
  Returns `{:ok, value}` if there is a valid entry, `:miss` if there is none, or `:not_kept` if the records of
  the namespace are not.
  """
  def fetch(nil, _namespace, _key), do: :not_kept

  # A hit is little more than a lookup: what it needs is taken from the cache at once.
  def fetch(
        %{namespaces: namespaces, generations: generations, valid?: valid?, handle: handle} =
          cache,
        namespace,
        key
      ) do
    case namespaces do
      %{^namespace => tables} ->
        generation = :atomics.get(generations, @younger)

        case lookup(table(tables, generation), key, valid?, handle) do
          nil -> fetch_older(cache, tables, generation, key)
          entry -> {:ok, elem(entry, 1)}
        end

      _not_kept ->
        :not_kept
    end
  rescue
    # The tables end with their owner. A request to the native library tells that the instance is stopped.
    ArgumentError -> :miss
  end

  defp fetch_older(%{valid?: valid?, handle: handle} = cache, tables, generation, key) do
    case lookup(table(tables, generation - 1), key, valid?, handle) do
      nil ->
        :counters.add(cache.counts, @misses, 1)
        :miss

      entry ->
        insert(cache, tables, generation, entry)
        {:ok, elem(entry, 1)}
    end
  end

  # The entry, if it is valid.
  defp lookup(table, key, valid?, handle) do
    case :ets.lookup(table, key) do
      [{_key, _value, shard, version, epoch, expires_at, _memory} = entry] ->
        if valid?.(handle, shard, version, epoch, expires_at), do: entry

      [] ->
        nil
    end
  end

  @doc """
  Keeps a value with what it was stamped with. `memory` is the number of bytes that it takes outside of its
  process's heap.
  """
  def store(cache, namespace, key, value, {shard, version, epoch, expires_at, memory}) do
    if plain?(key) and fits?(cache, value, memory) do
      entry = {copy(key), value, shard, version, epoch, expires_at, memory}
      tables = Map.fetch!(cache.namespaces, namespace)
      insert(cache, tables, :atomics.get(cache.generations, @younger), entry)
    end

    :ok
  rescue
    # As in fetch/3.
    ArgumentError -> :ok
  end

  # Whether equal terms are one key in Redis. 0.0 and -0.0 are two, and may be equal in ETS.
  defp plain?(part) when is_binary(part) or is_atom(part) or is_integer(part), do: true
  defp plain?([part | parts]), do: plain?(part) and plain?(parts)
  defp plain?([]), do: true
  defp plain?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> plain?()
  defp plain?(_other), do: false

  # A part may be a reference into a large binary, such as a request, which it would keep in memory.
  defp copy(key), do: key |> :erlang.term_to_binary() |> :erlang.binary_to_term()

  defp fits?(cache, value, memory),
    do: memory + :erts_debug.flat_size(value) * @word_bytes <= cache.max_entry_bytes

  defp insert(cache, tables, generation, {key, _, _, _, _, _, memory} = entry) do
    table = table(tables, generation)

    if bytes(cache, generation) < cache.max_table_bytes do
      for {_, _, _, _, _, _, replaced} <- :ets.take(table, key),
          do: add_outside(cache, generation, -replaced)

      add_outside(cache, generation, memory)
      :ets.insert(table, entry)
    else
      report_full(cache, generation)
    end
  end

  defp add_outside(_cache, _generation, 0), do: :ok

  defp add_outside(cache, generation, bytes),
    do: :counters.add(cache.counts, outside(generation), bytes)

  # The first one to notice reports it.
  defp report_full(cache, generation) do
    if :atomics.exchange(cache.generations, @full, generation) != generation,
      do: send(cache.owner, {:near_cache_full, generation})
  end

  @doc "Swaps, if that generation is the younger one. Only the owner may call it."
  def swap(cache, full) do
    if :atomics.get(cache.generations, @younger) == full do
      :counters.add(cache.counts, @swaps, 1)
      begin_generation(cache)
    end

    :ok
  end

  @doc "Removes all entries. Only the owner may call it."
  def clear(cache) do
    begin_generation(cache)
    begin_generation(cache)
  end

  defp begin_generation(cache) do
    generation = :atomics.add_get(cache.generations, @younger, 1)
    # What was the older generation has the turn of the next one.
    for table <- all_tables(cache, generation + 1), do: :ets.delete_all_objects(table)
    :counters.put(cache.counts, outside(generation + 1), 0)
  end

  @doc "Returns the counters, the number of entries, and the bytes that they take."
  def info(cache) do
    generation = :atomics.get(cache.generations, @younger)
    generations = [generation, generation - 1]

    %{
      misses: :counters.get(cache.counts, @misses),
      swaps: :counters.get(cache.counts, @swaps),
      entries: generations |> Enum.map(&size(cache, &1, :size)) |> Enum.sum(),
      bytes: generations |> Enum.map(&bytes(cache, &1)) |> Enum.sum()
    }
  end

  defp bytes(cache, generation) do
    size(cache, generation, :memory) * @word_bytes +
      :counters.get(cache.counts, outside(generation))
  end

  # A table that has ended with its owner has no size.
  defp size(cache, generation, item) do
    for table <- all_tables(cache, generation), reduce: 0 do
      size -> size + with(:undefined <- :ets.info(table, item), do: 0)
    end
  end

  defp all_tables(cache, generation),
    do: for({_namespace, tables} <- cache.namespaces, do: table(tables, generation))

  defp table(tables, generation), do: elem(tables, rem(generation, @turns))
  defp outside(generation), do: @outside + rem(generation, @turns)
end
