defmodule PowRedisCache.ClockTest do
  # Index entries expire by the server's clock. `all/2` finds every live session, whatever that clock does.
  use PowRedisCache.Case, async: true

  @moduletag :integration

  alias PowRedisCache.{HoldingProxy, Resp}

  @moduletag server: [], instance: [name: nil]

  # Longer than the interval in which an instance in use reads the clock.
  @several_seconds 4_000
  @ttl :timer.minutes(30)

  for {title, jump} <- [{"forward", 3_600}, {"back", -3_600}] do
    test "sessions are found when the server's clock jumps an hour #{title}", context do
      {clock, busy} = start_with_clock(context)
      other = start_instance(context, url: url(clock.proxy), pool_size: 1)
      log_in(busy, "before")
      log_in(other, "before, elsewhere")
      shift(clock, unquote(jump))
      # Before the instance has read the clock again, and after that.
      log_in(busy, "during")
      # This instance has connected after the jump.
      fresh = start_instance(context, url: url(clock.proxy), pool_size: 1)
      log_in(fresh, "during, elsewhere")
      keep_busy(busy, @several_seconds)
      log_in(busy, "after")

      # Each put removes what it takes for expired.
      for number <- 1..3, do: log_in(fresh, "after, elsewhere #{number}")
      for config <- [busy, other, fresh], do: assert_finds_all(config)
    end
  end

  test "an instance in use reads the server's clock again", context do
    {clock, busy} = start_with_clock(context)
    log_in(busy, "before")
    shift(clock, 3_600)

    # The score of a new session shows which time the instance knows.
    Wait.until(fn ->
      log_in(busy, "score")
      score = score(context, "score")
      abs(score - (System.os_time(:second) + 3_600 + div(@ttl, 1_000))) < 600
    end)
  end

  test "sessions are found after the host was suspended for a minute", context do
    # To the instance, the server's clock seems to jump: its own monotonic clock stood still meanwhile.
    {clock, suspended} = start_with_clock(context)
    other = start_instance(context, url: url(clock.proxy), pool_size: 1)
    log_in(suspended, "before")
    shift(clock, 60)
    log_in(suspended, "short-lived", 50_000)
    fresh = start_instance(context, url: url(clock.proxy), pool_size: 1)
    for number <- 1..3, do: log_in(fresh, "elsewhere #{number}")
    for config <- [suspended, other, fresh], do: assert_finds_all(config)
  end

  for {title, error} <- [
        {"not permitted", "NOPERM this user has no permissions to run the 'time' command"},
        {"answered with BUSY", "BUSY Redis is busy running a script."}
      ] do
    test "sessions are found while TIME is #{title}", context do
      # The server's clock is an hour ahead of the host's.
      {clock, busy} = start_with_clock(context, 3_600)
      log_in(busy, "before")
      refuse(clock, unquote(error))
      keep_busy(busy, @several_seconds)
      log_in(busy, "meanwhile")
      fresh = start_instance(context, url: RedisServer.url(context.server), pool_size: 1)
      log_in(fresh, "meanwhile, elsewhere")
      refuse(clock, nil)
      log_in(busy, "after")
      for number <- 1..3, do: log_in(fresh, "after, elsewhere #{number}")
      for config <- [busy, fresh], do: assert_finds_all(config)
    end
  end

  test "a clock that was refused for a moment at the connect is the server's later", context do
    clock = start_clock(context, 3_600)
    refuse(clock, "BUSY Redis is busy running a script.")
    config = start_instance(context, url: url(clock.proxy), pool_size: 1)
    put = Task.async(fn -> log_in(config, "session") end)
    Process.sleep(500)
    refuse(clock, nil)
    Task.await(put, 60_000)
    expected = System.os_time(:second) + 3_600 + div(@ttl, 1_000)
    assert abs(score(context, "session") - expected) < 600
  end

  # A proxy whose TIME is shifted by some seconds, or refused.
  defp start_clock(context, seconds) do
    shift = :atomics.new(1, signed: true)
    error = :ets.new(:error, [:public])
    :atomics.put(shift, 1, seconds)

    rewrite = fn
      ["TIME"], _reply ->
        case :ets.lookup(error, :error) do
          [{:error, message}] when is_binary(message) -> "-#{message}\r\n"
          _ -> Resp.time(System.os_time(:second) + :atomics.get(shift, 1))
        end

      _command, reply ->
        reply
    end

    proxy = HoldingProxy.start!(context.server.port, rewrite: rewrite)
    %{proxy: proxy, shift: shift, error: error}
  end

  defp start_with_clock(context, seconds \\ 0) do
    clock = start_clock(context, seconds)
    {clock, start_instance(context, url: url(clock.proxy), pool_size: 1)}
  end

  defp url(proxy), do: HoldingProxy.url(proxy)
  defp shift(clock, seconds), do: :atomics.put(clock.shift, 1, seconds)
  defp refuse(clock, message), do: :ets.insert(clock.error, {:error, message})

  defp log_in(config, session, ttl \\ @ttl) do
    :ok = PowRedisCache.put(Keyword.put(config, :ttl, ttl), {["user", 1, session], session})
    send(self(), {:logged_in, session})
  end

  # Calls all the time, so that the connection is never idle.
  defp keep_busy(config, milliseconds) do
    finished = System.monotonic_time(:millisecond) + milliseconds

    Wait.until(fn ->
      PowRedisCache.get(config, "other")
      System.monotonic_time(:millisecond) > finished
    end)
  end

  defp assert_finds_all(config) do
    # All sessions are live.
    found =
      for {["user", 1, session], session} <- PowRedisCache.all(config, ["user", 1, :_]),
          do: session

    assert Enum.sort(found) == Enum.sort(logged_in())
    for session <- found, do: assert(PowRedisCache.get(config, ["user", 1, session]) == session)
  end

  defp logged_in do
    {:messages, messages} = Process.info(self(), :messages)
    for {:logged_in, session} <- messages, uniq: true, do: session
  end

  # The seconds at which the index entry of a session expires.
  defp score(context, session) do
    set = PowGuideStore.index_set(context.pow_store, [context.namespace, "user", 1])
    member = PowGuideStore.path(context.pow_store, [session])

    {score, ""} =
      context.client |> RedisClient.command!(["ZSCORE", set, member]) |> Integer.parse()

    div(score, 1_000)
  end
end
