defmodule PowRedisCache.Staleness do
  @moduledoc """
  Checks how old the values are that instances with a near cache serve. Many processes write and read the
  same keys through several instances and with another client, while a test causes faults. Afterwards each
  read is judged by the history, see `PowRedisCache.Staleness.Verdict`.
  """

  alias PowRedisCache.Staleness.{History, Raw, Reader, Verdict, Writer}

  @own_keys 24
  @shared_keys 8
  @shared_writers 3

  defstruct [:history, :instances, :raw, :namespace, :tasks]

  @type instance :: %{
          number: non_neg_integer(),
          get: (term() -> term()),
          all: (() -> [{term(), term()}]),
          put: ([{term(), term()}], keyword() -> :ok),
          put_new: ({term(), term()}, keyword() -> boolean()),
          delete: (term() -> :ok)
        }

  @doc "The keys that are written and read."
  @spec keys() :: [term()]
  def keys, do: own_keys() ++ shared_keys()

  defp own_keys, do: for(number <- 1..@own_keys, do: ["s", number])
  defp shared_keys, do: for(number <- 1..@shared_keys, do: ["s", @own_keys + number])

  @doc "The functions of an instance, by its number and the configuration of calls."
  @spec instance(non_neg_integer(), keyword()) :: instance()
  def instance(number, config) do
    %{
      number: number,
      get: &PowRedisCache.get(config, &1),
      all: fn -> PowRedisCache.all(config, ["s", :_]) end,
      put: fn records, options ->
        config |> Keyword.merge(options) |> PowRedisCache.put(records)
      end,
      put_new: fn record, options ->
        config |> Keyword.merge(options) |> PowRedisCache.put_new(record)
      end,
      delete: &PowRedisCache.delete(config, &1)
    }
  end

  @doc """
  Starts to write and read. Options: `:instances`; `:raw`, a `PowRedisCache.Staleness.Raw`; `:namespace`,
  in which there is nothing yet.
  """
  @spec start(keyword()) :: %__MODULE__{}
  def start(options) do
    check = struct!(__MODULE__, [history: History.new()] ++ options)
    start = History.now()
    for key <- keys(), do: record_absence(check, key, start, start, :done)
    %{check | tasks: writers(check) ++ readers(check)}
  end

  @doc "Stops, and returns the entries of the history."
  @spec stop(%__MODULE__{}) :: map()
  def stop(check) do
    for task <- check.tasks, do: send(task.pid, :stop)
    Task.await_many(check.tasks, 120_000)
    History.entries(check.history)
  end

  @doc "Judges the entries of a history. `max_staleness` is in milliseconds."
  @spec judge(map(), pos_integer()) :: map()
  def judge(entries, max_staleness), do: Verdict.judge(entries, max_staleness * 1_000)

  @doc "Records a fault of a kind while a function is called. Returns its result."
  def fault(check, kind, function) do
    from = History.now()
    result = function.()
    History.record(check.history, :fault, %{kind: kind, from: from, to: History.now()})
    result
  end

  @doc """
  Records that keys were handed over from a server to another, while a function was called, and what the
  keys are then on the responsible servers. `lossy` is a boolean, or a function that tells from the result.
  Returns the function's result.
  """
  def handover(check, keys, lossy, function) do
    from = History.now()
    result = function.()
    lossy = if is_function(lossy), do: lossy.(result), else: lossy
    handover = %{keys: keys, from: from, to: History.now(), lossy: lossy}
    History.record(check.history, :handover, handover)
    if lossy, do: observe(check, if(keys == :all, do: keys(), else: keys))
    result
  end

  @doc "Records that keys became absent while a function was called. Returns its result."
  def absence(check, keys, outcome, function) do
    from = History.now()
    result = function.()
    to = History.now()
    for key <- keys, do: record_absence(check, key, from, to, outcome)
    result
  end

  # A value that another client sees has certainly replaced all others.
  defp observe(check, keys) do
    for key <- keys do
      from = History.now()

      with {:ok, [value]} <- Raw.run(check.raw, key, [["GET", redis_key(check.namespace, key)]]) do
        write = %{key: key, by: :fault, from: from, to: History.now(), outcome: :seen, ttl: nil}
        History.record(check.history, :write, Map.put(write, :value, number(value)))
      end
    end
  end

  defp number(nil), do: :absent
  defp number(bytes), do: bytes |> :erlang.binary_to_term() |> elem(0)

  @doc "The key in Redis."
  def redis_key(namespace, key) do
    PowRedisCache.PowGuideStore.path(%PowRedisCache.PowGuideStore{}, [namespace | key])
  end

  defp record_absence(check, key, from, to, outcome) do
    write = %{
      key: key,
      value: :absent,
      by: :fault,
      from: from,
      to: to,
      outcome: outcome,
      ttl: nil
    }

    History.record(check.history, :write, write)
  end

  defp writers(check) do
    own = for key <- own_keys(), do: {[key], false}
    shared = for _ <- 1..@shared_writers, do: {shared_keys(), true}

    for {{keys, shared}, number} <- Enum.with_index(own ++ shared) do
      options = Map.take(check, [:history, :instances, :raw, :namespace])
      writer = Writer.new(Map.merge(options, %{keys: keys, shared: shared}))
      task(number, fn -> Writer.run(writer) end)
    end
  end

  # A read may wait while others are still served from memory: each key has its own process.
  defp readers(check) do
    for instance <- check.instances, keys <- [keys() | Enum.map(keys(), &[&1])] do
      reader = Reader.new(check.history, instance)
      task({instance.number, keys}, fn -> read(reader, keys) end)
    end
  end

  defp read(reader, keys) do
    receive do
      :stop -> Reader.close(reader)
    after
      4 + :rand.uniform(10) -> reader |> read_some(keys) |> read(keys)
    end
  end

  defp read_some(reader, [key]), do: Reader.get(reader, key)

  defp read_some(reader, keys) do
    if :rand.uniform(5) == 1 do
      Reader.list(reader)
    else
      keys |> Enum.take_random(8) |> Enum.reduce(reader, &Reader.get(&2, &1))
    end
  end

  defp task(number, function) do
    seed = {ExUnit.configuration()[:seed], :erlang.phash2(number), 13}

    Task.async(fn ->
      :rand.seed(:exsss, seed)
      function.()
    end)
  end
end
