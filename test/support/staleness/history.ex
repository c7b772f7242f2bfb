defmodule PowRedisCache.Staleness.History do
  @moduledoc """
  What happened while values were checked: writes, reads, faults and handovers. Processes record at the
  same time. All times are `now/0`.

  A write:

    * `:key`; `:value`, the number of the value that was written, or `:absent` if the key was deleted;
    * `:by` - the number of the instance, `:raw` for another client, `:fault` for a test's intervention;
    * `:from`, `:to` - Redis took the write between these times. `:to` of a write that failed is the time
      of the failure;
    * `:outcome` - `:done`; `:unknown`, if it failed and may have been applied or not; `:seen`, if another
      client read the value from the responsible server;
    * `:ttl` - of the value, in microseconds, or `nil`.

  Reads, one after the other, of one process that got the same value: `:key`, `:value`, `:instance`, the
  times of the first of them (`:first_from`, `:first_to`) and the last (`:last_from`, `:last_to`), and
  `:count`.

  A fault: `:kind`, `:from` and `:to`.

  A handover of keys from a server to another: `:keys`, `:from`, `:to`, and `:lossy`. Until it is over, the
  old server may not know of writes that the new one took. A lossy one may undo what was written meanwhile.
  """

  @kinds [:write, :reads, :fault, :handover]

  defstruct [:table]

  @type t :: %__MODULE__{}
  @type time :: integer()

  @doc "An empty history, which ends with the calling process."
  @spec new() :: t()
  def new do
    %__MODULE__{table: :ets.new(:history, [:duplicate_bag, :public, write_concurrency: true])}
  end

  @doc "Records a `:write`, `:reads`, a `:fault` or a `:handover`."
  @spec record(t(), :write | :reads | :fault | :handover, map()) :: :ok
  def record(history, kind, entry) when kind in @kinds do
    :ets.insert(history.table, {kind, entry})
    :ok
  end

  @doc "All entries, by kind."
  @spec entries(t()) :: %{atom() => [map()]}
  def entries(history) do
    for kind <- @kinds, into: %{} do
      {kind, for({^kind, entry} <- :ets.lookup(history.table, kind), do: entry)}
    end
  end

  @doc "The time, in microseconds."
  @spec now() :: time()
  def now, do: System.monotonic_time(:microsecond)
end
