defmodule PowRedisCache.ConsistencyChecker do
  @moduledoc """
  Checks the consistency of the store under load: many processes put, get, delete and list records. Each
  key has a single writer, which knows the values it may read.

  After an acknowledged write, only its value may be read. A failed write may have been applied or not:
  until the next acknowledged one, both the earlier and the failed value are possible.
  """

  alias PowRedisCache.{Error, SchedulerStalls, Wait}

  @keys 4
  @grace 500

  defstruct [:workers, :config, :timeout, :done]

  @doc """
  Starts the processes. Options: `:timeout`, that of the instance; `:processes`; `:seed`, to do something
  else than other checkers of the test run.
  """
  def start(config, options) do
    processes = options[:processes] || 50
    timeout = Keyword.fetch!(options, :timeout)
    seed = ExUnit.configuration()[:seed] + Keyword.get(options, :seed, 0)
    done = :counters.new(1, [])

    workers =
      for number <- 1..processes do
        Task.async(fn ->
          :rand.seed(:exsss, {seed, number, 11})

          work(%{
            config: config,
            number: number,
            done: done,
            possible: %{},
            log: [],
            written: 0
          })
        end)
      end

    %__MODULE__{workers: workers, config: config, timeout: timeout, done: done}
  end

  @doc """
  Whether a failover that took `took` microseconds only delayed calls. An election may have to be
  repeated: a failover of more than `limit` milliseconds may also fail calls.
  """
  def only_delayed?(report, took, limit) do
    allowed =
      if took < limit * 1_000, do: [], else: [:timeout, :disconnected, :server, :read_only]

    Map.keys(report.errors) -- allowed == []
  end

  @doc "Waits until that many more calls have succeeded."
  def await(checker, calls) do
    before = :counters.get(checker.done, 1)
    Wait.until(fn -> :counters.get(checker.done, 1) >= before + calls end)
    checker
  end

  @doc """
  Stops the processes and returns a report:

    * `:calls` - the number of calls;
    * `:errors` - the number of errors by reason;
    * `:slowest` - the milliseconds of the slowest call;
    * `:late` - calls that took half a second longer than the timeout;
    * `:lost` - reads that missed an acknowledged record;
    * `:stale` - reads of a value that an acknowledged write had deleted or replaced;
    * `:leftover` - messages left in mailboxes;
    * `:last_error` - the milliseconds between the last error and the end, `nil` without errors.
  """
  def stop(checker) do
    for worker <- checker.workers, do: send(worker.pid, :stop)
    logs = Task.await_many(checker.workers, checker.timeout * 3 + 60_000)
    ended = now()
    calls = Enum.flat_map(logs, & &1.log)

    %{
      calls: length(calls),
      errors: for({:error, reason, _, _} <- calls, do: reason) |> Enum.frequencies(),
      slowest: calls |> Enum.map(fn {_, _, from, to} -> to - from end) |> Enum.max(),
      late: Enum.count(calls, &late?(&1, checker.timeout)),
      lost: Enum.count(calls, &match?({:lost, _, _, _}, &1)),
      stale: Enum.count(calls, &match?({:stale, _, _, _}, &1)),
      leftover: logs |> Enum.map(& &1.leftover) |> Enum.sum(),
      last_error: calls |> last_error(ended),
      possible: logs |> Enum.map(& &1.possible) |> Enum.reduce(&Map.merge/2)
    }
  end

  @doc """
  Reads all records again, until each read succeeds. Adds lost and stale ones to the report, and as
  `:mismatched` those on which `all/2` and `get/2` disagree.
  """
  def verify(checker, report) do
    %{config: config} = checker

    found =
      for number <- 1..length(checker.workers),
          {key, value} <- read(fn -> PowRedisCache.all(config, [key_part(number), :_]) end),
          into: %{},
          do: {key, value}

    outcomes =
      for {key, possible} <- report.possible do
        listed = Map.get(found, key, :not_found)
        read = read(fn -> PowRedisCache.get(config, key) end)
        # `all/2` and `get/2` must agree.
        if read == listed, do: judge(read, possible), else: {:mismatched, key}
      end

    %{
      report
      | lost: report.lost + Enum.count(outcomes, &(&1 == :lost)),
        stale: report.stale + Enum.count(outcomes, &(&1 == :stale))
    }
    |> Map.put(:mismatched, Enum.count(outcomes, &match?({:mismatched, _}, &1)))
  end

  # On a busy machine, a short timeout of the instance may be over.
  defp read(call) do
    {:ok, result} =
      Wait.until(fn ->
        case timed(call) do
          {:error, _entry} -> nil
          {outcome, _entry} -> outcome
        end
      end)

    result
  end

  @doc "Prints the report on one line."
  def print(report, title) do
    counts =
      for key <- [:calls, :errors, :slowest, :late, :lost, :stale, :mismatched, :leftover],
          Map.has_key?(report, key),
          do: "#{key} #{inspect(report[key])}"

    IO.puts("\n#{title}: #{Enum.join(counts, ", ")}")
    report
  end

  defp work(state) do
    receive do
      :stop ->
        {:messages, messages} = Process.info(self(), :messages)
        Map.put(state, :leftover, length(messages))
    after
      4 + :rand.uniform(20) -> state |> call() |> work()
    end
  end

  defp call(state) do
    key = [key_part(state.number), :rand.uniform(@keys)]
    possible = Map.get(state.possible, key, [:not_found])

    case :rand.uniform(20) do
      n when n <= 8 -> put(state, key, possible)
      n when n <= 12 -> delete(state, key, possible)
      n when n <= 19 -> get(state, key, possible)
      20 -> list(state)
    end
  end

  defp put(state, key, possible) do
    value = state.written + 1
    state = %{state | written: value}
    write(state, key, possible, value, fn -> PowRedisCache.put(state.config, {key, value}) end)
  end

  defp delete(state, key, possible) do
    write(state, key, possible, :not_found, fn -> PowRedisCache.delete(state.config, key) end)
  end

  defp write(state, key, possible, value, call) do
    {outcome, entry} = timed(call)

    possible =
      case outcome do
        {:ok, :ok} -> [value]
        :error -> [value | possible]
      end

    record(%{state | possible: Map.put(state.possible, key, possible)}, entry, :valid)
  end

  defp get(state, key, possible) do
    {outcome, entry} = timed(fn -> PowRedisCache.get(state.config, key) end)
    record(state, entry, with({:ok, value} <- outcome, do: judge(value, possible)))
  end

  defp list(state) do
    {outcome, entry} =
      timed(fn -> PowRedisCache.all(state.config, [key_part(state.number), :_]) end)

    verdict =
      with {:ok, records} <- outcome do
        found = Map.new(records)

        Enum.find_value(state.possible, fn {key, possible} ->
          verdict = judge(Map.get(found, key, :not_found), possible)
          if verdict != :valid, do: verdict
        end)
      end

    record(state, entry, verdict)
  end

  defp record(state, {_, _, from, to}, verdict) when verdict in [:lost, :stale],
    do: %{state | log: [{verdict, nil, from, to} | state.log]}

  defp record(state, {:ok, _, _, _} = entry, _judgement) do
    :counters.add(state.done, 1, 1)
    %{state | log: [entry | state.log]}
  end

  defp record(state, entry, _judgement), do: %{state | log: [entry | state.log]}

  defp judge(value, possible) do
    cond do
      value in possible -> :valid
      value == :not_found -> :lost
      true -> :stale
    end
  end

  defp timed(call) do
    from = now()

    try do
      call.()
    rescue
      error in Error -> {:error, {:error, error.reason, from, now()}}
    else
      result -> {{:ok, result}, {:ok, nil, from, now()}}
    end
  end

  defp late?({_, _, from, to}, timeout) do
    to - from > timeout + @grace and
      to - from - SchedulerStalls.between(from, to) > timeout + @grace
  end

  defp last_error(calls, ended) do
    case for({:error, _, _, to} <- calls, do: to) do
      [] -> nil
      times -> ended - Enum.max(times)
    end
  end

  defp key_part(number), do: "process#{number}"

  defp now, do: System.monotonic_time(:millisecond)
end
