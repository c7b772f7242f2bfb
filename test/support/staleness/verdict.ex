defmodule PowRedisCache.Staleness.Verdict do
  @moduledoc """
  Judges a history of writes and reads by what the near cache guarantees.

  Writes overlap, so their order is not known in general. A value is certainly replaced if another write
  began after the value's own write was over, and has been acknowledged. Then these rules hold for a read
  that begins at a time:

    * `:stale` - the value was not replaced longer than `:max_staleness` before. This needs no allowance for
      a busy machine: a request that Redis answers after it took a write brings the invalidation along, and
      a value is trusted for `:max_staleness` after the sending of the last request that was answered;
    * `:own_write` - no synchronous write of the same instance had replaced the value;
    * `:expired` - the value's time to live was not over;
    * `:backwards` - no earlier read of the same instance had returned a newer value;
    * `:unknown` - the value was written to this key, and its write began before the first read was over.

  A failed write may still be applied, until a later one of the same instance to the same key succeeds.

  Writes during a lossy handover may be undone, and replace nothing. During another one, a server may not
  know of them: they count when it is over. What a client then reads from the responsible server replaces
  every other value.
  """

  alias PowRedisCache.Staleness.Steps

  # For the resolution of clocks and of times to live, in microseconds.
  @slack 50_000

  @type violation :: %{
          rule: :stale | :own_write | :expired | :backwards | :unknown,
          key: term(),
          value: term(),
          instance: non_neg_integer(),
          read_at: integer(),
          late: integer() | nil
        }

  @doc """
  Judges the entries of a history. `max_staleness` is in microseconds. Returns:

    * `:violations`;
    * `:delays` - for each value and instance: `:from`, when the value had certainly been replaced, `:to`,
      when the last read began that returned it, and the `:instance`. Only values that were read after they
      had been replaced have a delay;
    * `:replaced` - the number of values and instances that could have had one;
    * `:reads` - the number of reads that were judged.
  """
  @spec judge(map(), pos_integer()) :: map()
  def judge(entries, max_staleness) do
    reads = Enum.group_by(entries.reads, & &1.key)
    writes = Enum.group_by(entries.write, & &1.key)

    reads
    |> Enum.map(fn {key, reads} ->
      handovers = Enum.filter(entries.handover, &concerns?(&1, key))
      timeline = timeline(Map.get(writes, key, []), handovers)
      judge_key(timeline, reads, max_staleness)
    end)
    |> Enum.reduce(%{violations: [], delays: [], replaced: 0, reads: 0}, fn judged, sum ->
      Map.merge(sum, judged, fn
        _name, left, right when is_list(left) -> right ++ left
        _name, left, right -> left + right
      end)
    end)
  end

  defp concerns?(%{keys: :all}, _key), do: true
  defp concerns?(%{keys: keys}, key), do: key in keys

  # What is known of a key's values.
  defp timeline(writes, handovers) do
    writes = Enum.map(writes, &Map.put(&1, :over, over(&1, writes)))
    lossy = Enum.filter(handovers, & &1.lossy)
    {seen, written} = Enum.split_with(writes, &(&1.outcome == :seen))
    done = for %{outcome: :done} = write <- written, not during?(write, lossy), do: write
    seen = Enum.reject(seen, &during?(&1, lossy))

    values =
      for %{value: value} = write <- written, value != :absent, into: %{}, do: {value, write}

    %{
      values: values,
      absences: absences(writes),
      replacing: done |> Enum.map(&known(&1, handovers)) |> Steps.new(),
      filling:
        for(%{value: value} = write <- done, value != :absent, do: known(write, handovers))
        |> Steps.new(),
      seen: for(write <- seen, do: {write.value, known(write, handovers)}),
      own:
        done
        |> Enum.group_by(& &1.by, &{&1.from, &1.to})
        |> Map.new(fn {by, intervals} -> {by, Steps.new(intervals)} end),
      certain: MapSet.new(done, & &1.value),
      lossy: lossy
    }
  end

  # When a write cannot be applied any more.
  defp over(%{outcome: :unknown, by: by, to: failed}, writes) when is_integer(by) do
    for(%{by: ^by, outcome: :done, from: from, to: to} when from >= failed <- writes, do: to)
    |> Enum.min(fn -> :never end)
  end

  defp over(write, _writes), do: write.to

  # From when to when a write was taken, with the time at which all servers know of it.
  defp known(write, handovers) do
    to =
      for handover <- handovers,
          overlap?(write, handover),
          reduce: write.to,
          do: (to -> max(to, handover.to))

    {write.from, to}
  end

  defp during?(write, handovers), do: Enum.any?(handovers, &overlap?(write, &1))
  defp overlap?(one, other), do: one.from <= other.to and one.to >= other.from

  # Since when and until when the key may have become absent: by a delete, or because a value expired.
  defp absences(writes) do
    intervals =
      Enum.flat_map(writes, fn
        %{value: :absent} = write -> [{write.from, write.over}]
        %{ttl: nil} -> []
        write -> [{write.from + write.ttl, later(write.over, write.ttl)}]
      end)

    Steps.new(intervals)
  end

  defp judge_key(timeline, reads, max_staleness) do
    by_value = Enum.group_by(reads, &{&1.instance, &1.value})
    by_instance = Enum.group_by(reads, & &1.instance)
    per_value = for {{_instance, value}, reads} <- by_value, value != :absent, do: merge(reads)

    absent = for %{value: :absent} = reads <- reads, do: reads

    backwards =
      for {instance, reads} <- by_instance,
          own = Enum.filter(per_value, &(&1.instance == instance)),
          violation <- backwards(timeline, own, reads),
          do: violation

    judged = Enum.map(per_value ++ absent, &judge_value(timeline, &1, max_staleness))

    %{
      violations: Enum.flat_map(judged, & &1.violations) ++ backwards,
      delays: Enum.flat_map(judged, & &1.delays),
      replaced: Enum.count(judged, & &1.replaced),
      reads: reads |> Enum.map(& &1.count) |> Enum.sum()
    }
  end

  # The reads of a value by all processes of an instance.
  defp merge([first | _] = reads) do
    %{
      key: first.key,
      value: first.value,
      instance: first.instance,
      first_to: reads |> Enum.map(& &1.first_to) |> Enum.min(),
      last_from: reads |> Enum.map(& &1.last_from) |> Enum.max()
    }
  end

  # A key that is absent is judged by the latest reason for it.
  defp judge_value(timeline, %{value: :absent} = reads, max_staleness) do
    case Steps.last_end(timeline.absences, reads.last_to) do
      nil ->
        %{violations: [violation(:unknown, reads, nil)], delays: [], replaced: false}

      over ->
        replaced = replaced(timeline.filling, timeline.seen, :absent, over)
        violations = too_old(reads, replaced, max_staleness)
        %{violations: violations, delays: [], replaced: false}
    end
  end

  defp judge_value(timeline, reads, max_staleness) do
    case Map.get(timeline.values, reads.value) do
      %{from: from} = write when from <= reads.first_to ->
        replaced = replaced(timeline.replacing, timeline.seen, reads.value, write.over)

        %{
          violations:
            too_old(reads, replaced, max_staleness) ++
              own_write(timeline, reads, write) ++ expired(reads, write),
          delays: delays(reads, replaced),
          replaced: replaced != :never
        }

      _unknown ->
        %{violations: [violation(:unknown, reads, nil)], delays: [], replaced: false}
    end
  end

  # When a value was certainly replaced, whose write was over at a time.
  defp replaced(_steps, _seen, _value, :never), do: :never

  defp replaced(steps, seen, value, over) do
    others = for {other, {from, to}} <- seen, other != value, from > over, do: to
    Enum.min([Steps.first_end(steps, over) | others])
  end

  defp too_old(_reads, :never, _max_staleness), do: []

  defp too_old(reads, replaced, max_staleness) do
    late = reads.last_from - replaced
    if late > max_staleness + @slack, do: [violation(:stale, reads, late)], else: []
  end

  defp own_write(timeline, reads, write) do
    with {:ok, steps} <- Map.fetch(timeline.own, reads.instance),
         replaced when replaced != :never <- replaced(steps, [], reads.value, write.over),
         late when late > 0 <- reads.last_from - replaced do
      [violation(:own_write, reads, late)]
    else
      _ -> []
    end
  end

  defp expired(_reads, %{ttl: nil}), do: []
  defp expired(_reads, %{over: :never}), do: []

  defp expired(reads, write) do
    late = reads.last_from - later(write.over, write.ttl)
    if late > @slack, do: [violation(:expired, reads, late)], else: []
  end

  defp delays(reads, replaced) do
    if replaced != :never and reads.last_from > replaced,
      do: [%{instance: reads.instance, from: replaced, to: reads.last_from}],
      else: []
  end

  # `values` has the reads of one instance by value, `reads` all of them.
  defp backwards(timeline, values, reads) do
    known = Enum.filter(values, &Map.has_key?(timeline.values, &1.value))

    absent =
      for %{value: :absent} = read <- reads,
          not lossy?(timeline, read.first_from, read.last_to),
          do: read

    absences = Steps.new(for read <- absent, time <- [:first, :last], do: interval(read, time))
    newer = newer(timeline, known)
    sequence = reads |> Enum.sort_by(& &1.first_from) |> List.to_tuple()

    for reads <- known,
        write = timeline.values[reads.value],
        write.over != :never,
        reason = backwards(timeline, reads, write, absences, newer, sequence) do
      :backwards |> violation(reads, nil) |> Map.put(:reason, reason)
    end
  end

  defp backwards(timeline, reads, write, absences, newer, sequence) do
    cond do
      (Steps.last_end(newer, reads.last_from - 1) || write.over) > write.over ->
        :newer_value

      Steps.first_end(absences, write.over) < reads.last_from ->
        :was_absent

      not lossy?(timeline, reads.first_to, reads.last_from) and between?(sequence, reads, write) ->
        :other_value_between

      true ->
        nil
    end
  end

  defp interval(read, :first), do: {read.first_from, read.first_to}
  defp interval(read, :last), do: {read.last_from, read.last_to}

  # When values were read first, and when their writes had begun.
  defp newer(timeline, known) do
    known
    |> Enum.filter(&(&1.value in timeline.certain))
    |> Enum.map(&{&1.first_to, timeline.values[&1.value].from})
    |> Steps.new()
  end

  defp between?(sequence, reads, write) do
    after_time = max(reads.first_to, write.over)
    between?(sequence, reads, after_time, start(sequence, after_time, 0, tuple_size(sequence)))
  end

  # Whether another value was read between two reads of the value.
  defp between?(sequence, _reads, _after_time, index) when index >= tuple_size(sequence),
    do: false

  defp between?(sequence, reads, after_time, index) do
    other = elem(sequence, index)

    cond do
      other.first_from >= reads.last_from -> false
      other.value != reads.value and other.first_to < reads.last_from -> true
      true -> between?(sequence, reads, after_time, index + 1)
    end
  end

  defp start(_sequence, _time, low, low), do: low

  defp start(sequence, time, low, high) do
    middle = div(low + high, 2)

    if elem(sequence, middle).first_from > time,
      do: start(sequence, time, low, middle),
      else: start(sequence, time, middle + 1, high)
  end

  defp lossy?(timeline, from, to), do: during?(%{from: from, to: to}, timeline.lossy)

  defp later(:never, _time), do: :never
  defp later(time, more), do: time + more

  defp violation(rule, reads, late) do
    %{
      rule: rule,
      key: reads.key,
      value: reads.value,
      instance: reads.instance,
      read_at: reads.last_from,
      late: late
    }
  end
end
