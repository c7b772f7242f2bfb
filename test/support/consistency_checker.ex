defmodule PowRedisCache.ConsistencyChecker do
  @moduledoc """
  A steady load of puts, gets, deletes and listings from many processes, and an account of what came
  of it. Each key has one writer, which so knows what it may find there.

  An acknowledged write is the only thing that may be found afterwards; a write that failed may have
  been done or not, so that either may be found until the next acknowledged one.
  """

  alias PowRedisCache.{Error, SchedulerStalls, Wait}

  @keys 4
  @grace 500

  defstruct [:workers, :config, :timeout, :done]

  @doc "Starts the load. Options: `:timeout`, that of the instance; `:processes`; `:namespace`."
  def start(config, options) do
    processes = options[:processes] || 50
    timeout = Keyword.fetch!(options, :timeout)
    seed = ExUnit.configuration()[:seed]
    done = :counters.new(1, [])

    workers =
      for number <- 1..processes do
        Task.async(fn ->
          :rand.seed(:exsss, {seed, number, 11})

          work(%{
            config: config,
            number: number,
            done: done,
            known: %{},
            log: [],
            written: 0
          })
        end)
      end

    %__MODULE__{workers: workers, config: config, timeout: timeout, done: done}
  end

  @doc """
  Whether a failover that took so many microseconds cost no call more than time. Elections are lost now
  and then: one that took longer than `limit` milliseconds may fail the calls under way.
  """
  def only_waited?(report, took, limit) do
    allowed =
      if took < limit * 1_000, do: [], else: [:timeout, :disconnected, :server, :read_only]

    Map.keys(report.errors) -- allowed == []
  end

  @doc "Waits until so many more calls have been answered well."
  def await(load, calls) do
    before = :counters.get(load.done, 1)
    Wait.until(fn -> :counters.get(load.done, 1) >= before + calls end)
    load
  end

  @doc """
  Ends the load, and answers with what came of it:

    * `:calls`, `:errors` (by reason), `:slowest` (milliseconds);
    * `:late` - calls that took half a second longer than the timeout;
    * `:missing` - acknowledged records that a later call did not find;
    * `:back` - records found after an acknowledged delete, or after a later record;
    * `:left` - messages left in mailboxes;
    * `:last_error` - how long before the end the last error was, `nil` without any.
  """
  def stop(load) do
    for worker <- load.workers, do: send(worker.pid, :stop)
    logs = Task.await_many(load.workers, load.timeout * 3 + 60_000)
    ended = now()
    calls = Enum.flat_map(logs, & &1.log)

    %{
      calls: length(calls),
      errors: for({:error, reason, _, _} <- calls, do: reason) |> Enum.frequencies(),
      slowest: calls |> Enum.map(fn {_, _, from, to} -> to - from end) |> Enum.max(),
      late: Enum.count(calls, &late?(&1, load.timeout)),
      missing: Enum.count(calls, &match?({:missing, _, _, _}, &1)),
      back: Enum.count(calls, &match?({:back, _, _, _}, &1)),
      left: logs |> Enum.map(& &1.left) |> Enum.sum(),
      last_error: calls |> last_error(ended),
      known: logs |> Enum.map(& &1.known) |> Enum.reduce(&Map.merge/2)
    }
  end

  @doc "Reads everything again: how many records are missing, how many came back."
  def verify(load, report) do
    %{config: config} = load

    found =
      for number <- 1..length(load.workers),
          {key, value} <- PowRedisCache.all(config, [process(number), :_]),
          into: %{},
          do: {key, value}

    outcomes =
      for {key, known} <- report.known do
        listed = Map.get(found, key, :not_found)
        read = PowRedisCache.get(config, key)
        # What `all` lists is what `get` answers.
        if read == listed, do: judge(read, known), else: {:listed_wrong, key}
      end

    %{
      report
      | missing: report.missing + Enum.count(outcomes, &(&1 == :missing)),
        back: report.back + Enum.count(outcomes, &(&1 == :back))
    }
    |> Map.put(:listed_wrong, Enum.count(outcomes, &match?({:listed_wrong, _}, &1)))
  end

  @doc "One line of counts."
  def print(report, title) do
    counts =
      for key <- [:calls, :errors, :slowest, :late, :missing, :back, :listed_wrong, :left],
          Map.has_key?(report, key),
          do: "#{key} #{inspect(report[key])}"

    IO.puts("\n#{title}: #{Enum.join(counts, ", ")}")
    report
  end

  defp work(state) do
    receive do
      :stop ->
        {:messages, left} = Process.info(self(), :messages)
        Map.put(state, :left, length(left))
    after
      4 + :rand.uniform(20) -> state |> call() |> work()
    end
  end

  defp call(state) do
    key = [process(state.number), :rand.uniform(@keys)]
    known = Map.get(state.known, key, [:not_found])

    case :rand.uniform(20) do
      n when n <= 8 -> put(state, key, known)
      n when n <= 12 -> delete(state, key, known)
      n when n <= 19 -> get(state, key, known)
      20 -> list(state)
    end
  end

  defp put(state, key, known) do
    value = state.written + 1
    state = %{state | written: value}
    write(state, key, known, value, fn -> PowRedisCache.put(state.config, {key, value}) end)
  end

  defp delete(state, key, known) do
    write(state, key, known, :not_found, fn -> PowRedisCache.delete(state.config, key) end)
  end

  defp write(state, key, known, value, call) do
    {outcome, entry} = timed(call)

    known =
      case outcome do
        {:ok, :ok} -> [value]
        :error -> [value | known]
      end

    noted(%{state | known: Map.put(state.known, key, known)}, entry, :right)
  end

  defp get(state, key, known) do
    {outcome, entry} = timed(fn -> PowRedisCache.get(state.config, key) end)
    noted(state, entry, with({:ok, value} <- outcome, do: judge(value, known)))
  end

  defp list(state) do
    {outcome, entry} =
      timed(fn -> PowRedisCache.all(state.config, [process(state.number), :_]) end)

    judgement =
      with {:ok, records} <- outcome do
        found = Map.new(records)

        Enum.find_value(state.known, fn {key, known} ->
          judgement = judge(Map.get(found, key, :not_found), known)
          if judgement != :right, do: judgement
        end)
      end

    noted(state, entry, judgement)
  end

  defp noted(state, {_, _, from, to}, judgement) when judgement in [:missing, :back],
    do: %{state | log: [{judgement, nil, from, to} | state.log]}

  defp noted(state, {:ok, _, _, _} = entry, _judgement) do
    :counters.add(state.done, 1, 1)
    %{state | log: [entry | state.log]}
  end

  defp noted(state, entry, _judgement), do: %{state | log: [entry | state.log]}

  defp judge(value, known) do
    cond do
      value in known -> :right
      value == :not_found -> :missing
      true -> :back
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

  defp process(number), do: "process#{number}"

  defp now, do: System.monotonic_time(:millisecond)
end
