defmodule PowRedisCache.StalenessCheckerTest do
  # The checker of the near cache finds what it is there to find: caches that are wrong on purpose.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  alias PowRedisCache.{Cluster, RedisClient, RedisServer, Staleness}
  alias PowRedisCache.Staleness.{Raw, Replication, Report, Verdict}

  describe "a history" do
    test "without a read of a replaced value is right" do
      writes = [absent(0, 1), put(1, 10, 11), put(2, 20, 21)]
      reads = [reads(:absent, 2, 3), reads(1, 12, 15), reads(1, 17, 18), reads(2, 22, 30)]
      assert %{violations: [], delays: [], replaced: 1, reads: 4} = judge(writes, reads)
    end

    test "with a value that is read for too long after it was replaced is wrong" do
      writes = [absent(0, 1), put(1, 10, 11), put(2, 20, 21)]
      assert rules(writes, [reads(1, 12, 1_021)]) == []
      assert [%{rule: :stale, late: 1_179_000}] = judge(writes, [reads(1, 12, 1_200)]).violations
      # The same for a deleted one.
      writes = [absent(0, 1), put(1, 10, 11), absent(20, 21)]
      assert rules(writes, [reads(1, 12, 1_200)]) == [:stale]
      # And for a value that another client has seen to be gone.
      writes = [absent(0, 1), put(1, 10, 11), absent(20, 21, outcome: :seen, by: :fault)]
      assert rules(writes, [reads(1, 12, 1_200)]) == [:stale]
      # It has still a delay if it was not read for too long.
      assert [%{from: 21_000, to: 500_000}] = judge(writes, [reads(1, 12, 500)]).delays
    end

    test "with a record that is missing for too long is wrong" do
      writes = [absent(0, 1), put(1, 10, 11)]
      assert rules(writes, [reads(:absent, 2, 12)]) == []
      assert rules(writes, [reads(:absent, 1_500, 1_500)]) == [:stale]
      # Unless it may have expired or been deleted meanwhile.
      assert rules([absent(0, 1), put(1, 10, 11, ttl: 100)], [reads(:absent, 1_500, 1_500)]) == []
      unknown = absent(1_000, 1_100, outcome: :unknown, by: :raw)
      assert rules([unknown | writes], [reads(:absent, 1_500, 1_500)]) == []
    end

    test "may have writes in any order that overlap" do
      writes = [absent(0, 1), put(1, 10, 30), put(2, 20, 40)]
      assert rules(writes, [reads(1, 12, 9_000)]) == []
      assert rules(writes, [reads(2, 41, 9_000, instance: 1)]) == []
      assert rules([put(3, 41, 50) | writes], [reads(1, 12, 9_000)]) == [:stale]
    end

    test "in which an instance does not read its own write is wrong" do
      writes = [absent(0, 1), put(1, 10, 11), put(2, 20, 21, by: 0)]
      assert rules(writes, [reads(1, 12, 20)]) == []
      assert rules(writes, [reads(1, 12, 22)]) == [:own_write]
      assert rules(writes, [reads(1, 12, 22, instance: 1)]) == []
      deleted = [absent(0, 1), put(1, 10, 11), absent(20, 21, by: 0)]
      assert rules(deleted, [reads(1, 12, 22)]) == [:own_write]
      # Unless the write failed.
      failed = [absent(0, 1), put(1, 10, 11), put(2, 20, 21, by: 0, outcome: :unknown)]
      assert rules(failed, [reads(1, 12, 9_000)]) == []
    end

    test "with a value that is read after its time to live is wrong" do
      writes = [absent(0, 1), put(1, 10, 11, ttl: 100)]
      assert rules(writes, [reads(1, 12, 110)]) == []
      assert rules(writes, [reads(1, 12, 170)]) == [:expired]
    end

    test "in which the reads of an instance go back in time is wrong" do
      writes = [absent(0, 1), put(1, 10, 11), put(2, 20, 21)]
      backwards = [reads(2, 22, 22), reads(1, 23, 23)]
      assert [%{rule: :backwards, reason: :newer_value}] = judge(writes, backwards).violations
      # Each instance for itself.
      assert rules(writes, [reads(2, 22, 22), reads(1, 23, 23, instance: 1)]) == []
      # One read began before the other was over.
      assert rules(writes, [reads(2, 22, 22), reads(1, 22, 22)]) == []

      deleted = [absent(0, 1), put(1, 10, 11), absent(20, 21)]
      returned = [reads(1, 12, 12), reads(:absent, 22, 22), reads(1, 24, 24)]
      assert [%{rule: :backwards, reason: :was_absent}] = judge(deleted, returned).violations

      overlapping = [absent(0, 1), put(1, 10, 30), put(2, 20, 40)]
      again = [reads(1, 31, 31), reads(2, 33, 33), reads(1, 35, 35)]

      assert [%{rule: :backwards, reason: :other_value_between, value: 1}] =
               judge(overlapping, again).violations

      # A put that is retried may be applied twice.
      assert rules([absent(0, 1), put(1, 10, 36), put(2, 20, 40)], again) == []
    end

    test "with a value that nobody wrote, or not yet, is wrong" do
      writes = [absent(0, 1), put(1, 10, 11)]
      assert rules(writes, [reads(2, 12, 13)]) == [:unknown]
      assert rules(writes, [reads(1, 8, 9)]) == [:unknown]
      assert rules([put(1, 10, 11)], [reads(:absent, 8, 8)]) == [:unknown]
    end

    test "with a failed write that may be applied later is right until a later one succeeds" do
      failed = [absent(0, 1), put(1, 10, 11, by: 0, outcome: :unknown), put(2, 20, 21)]
      assert rules(failed, [reads(1, 9_000, 9_000)]) == []
      # Another instance's does not end it.
      assert rules([put(3, 30, 31, by: 1) | failed], [reads(1, 9_000, 9_000)]) == []
      settled = [absent(30, 31, by: 0), put(3, 40, 41) | failed]
      assert rules(settled, [reads(1, 9_000, 9_000, instance: 1)]) == [:stale]
    end

    test "with a lossy handover may lose what was written meanwhile" do
      writes = [absent(0, 1), put(1, 10, 11), put(2, 20, 21, by: 0)]
      handover = %{keys: [:key], from: 15_000, to: 2_000_000, lossy: true}
      returned = [reads(1, 12, 12), reads(2, 22, 22), reads(1, 1_900, 3_000)]
      assert rules(writes, returned) == [:stale, :own_write, :backwards]
      assert rules(writes, returned, [handover]) == []
      # Other keys' handovers excuse nothing.
      assert length(rules(writes, returned, [%{handover | keys: [:other]}])) == 3
      # What is read then from the responsible server, or written then, replaces what was lost.
      seen = put(1, 2_001, 2_002, outcome: :seen, by: :fault)
      assert rules([seen | writes], returned, [handover]) == []
      assert rules([seen | writes], [reads(2, 22, 3_100)], [handover]) == [:stale]
      assert rules([put(3, 2_001, 2_002) | writes], [reads(1, 12, 3_100)], [handover]) == [:stale]
    end

    test "with a handover must have what was written when it is over" do
      writes = [absent(0, 1), put(1, 10, 11), put(2, 20, 21)]
      handover = %{keys: :all, from: 15_000, to: 2_000_000, lossy: false}
      assert rules(writes, [reads(1, 12, 2_900)], [handover]) == []
      assert rules(writes, [reads(1, 12, 3_100)], [handover]) == [:stale]
    end
  end

  describe "a cache in front of an instance" do
    test "that forgets a value after 3 s is found out", context do
      verdict = check(context, 3_000, 6_000)
      assert :stale in rules(verdict)
    end

    # The values are never too old, but nothing else is right.
    test "that forgets a value after 0.9 s is found out", context do
      verdict = check(context, 900, 5_000)
      assert [:own_write, :expired, :backwards] -- rules(verdict) == []
    end
  end

  test "an instance without a cache is right", context do
    assert check(context, 0, 2_000).violations == []
  end

  # After a full sync, a replica may lag for a second. A takeover would lose writes that no handover excuses.
  test "waits until a replica has applied what its primary acknowledged" do
    cluster = Cluster.start!()
    on_exit(fn -> Cluster.stop(cluster) end)
    primary = Cluster.owner(cluster, Cluster.slot(cluster, "key"))
    replica = Cluster.replica(cluster, primary)

    RedisServer.pause(replica)
    "OK" = RedisServer.command!(primary, ["SET", "key", "value"])
    waiting = Task.async(fn -> Replication.await(primary, [replica]) end)
    assert Task.yield(waiting, 300) == nil
    RedisServer.resume(replica)
    assert Task.await(waiting, 60_000) == :ok

    client = RedisClient.connect!(replica.port)
    assert RedisClient.pipeline(client, [["READONLY"], ["GET", "key"]]) == {:ok, ["OK", "value"]}
    RedisClient.close(client)
  end

  # Reads through caches, one of each process, that keep values for some milliseconds.
  defp check(context, keep, milliseconds) do
    instances =
      for number <- 0..1, config = start_instance(context, timeout: 10_000) do
        instance = Staleness.instance(number, config)
        %{instance | get: fn key -> cached(number, key, keep, fn -> instance.get.(key) end) end}
      end

    port = context.server.port
    raw = Raw.new(fn -> [port] end)
    check = Staleness.start(instances: instances, raw: raw, namespace: context.namespace)
    Process.sleep(milliseconds)
    entries = Staleness.stop(check)
    verdict = Staleness.judge(entries, 1_000)
    assert verdict.reads > 100
    # The report of any violation can be made.
    assert Report.describe(verdict.violations, entries) =~
             "#{length(verdict.violations)} violations"

    verdict
  end

  defp cached(number, key, keep, read) do
    now = System.monotonic_time(:millisecond)

    case Process.get({number, key}) do
      {value, until} when now < until ->
        value

      _none ->
        value = read.()
        if value != :not_found, do: Process.put({number, key}, {value, now + keep})
        value
    end
  end

  defp rules(%{violations: violations}), do: violations |> Enum.map(& &1.rule) |> Enum.uniq()

  defp rules(writes, reads, handovers \\ []),
    do: Enum.map(judge(writes, reads, handovers).violations, & &1.rule)

  defp judge(writes, reads, handovers \\ []) do
    Verdict.judge(%{write: writes, reads: reads, handover: handovers, fault: []}, 1_000_000)
  end

  # Times are in milliseconds.
  defp put(value, from, to, options \\ []) do
    ttl = options[:ttl]

    %{
      key: :key,
      value: value,
      by: options[:by] || :raw,
      from: from * 1_000,
      to: to * 1_000,
      outcome: options[:outcome] || :done,
      ttl: ttl && ttl * 1_000
    }
  end

  defp absent(from, to, options \\ []), do: put(:absent, from, to, options)

  # The first read lasts for half a millisecond, and so does the last.
  defp reads(value, first, last, options \\ []) do
    %{
      key: :key,
      value: value,
      instance: options[:instance] || 0,
      first_from: first * 1_000,
      first_to: first * 1_000 + 500,
      last_from: last * 1_000,
      last_to: last * 1_000 + 500,
      count: 1
    }
  end
end
