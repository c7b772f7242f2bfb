defmodule PowRedisCache.EventsTest do
  # The log lines of events that need no running instance.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias PowRedisCache.Events

  setup do
    level = Logger.level()
    Logger.configure(level: :info)
    on_exit(fn -> Logger.configure(level: level) end)
    [events: Events.new(MyCache, :standalone)]
  end

  describe "a near cache that was emptied" do
    test "is logged with the reason", %{events: events} do
      for {reason, text} <- [
            connection_lost: "the connection was lost",
            flushed: "the database was flushed",
            demoted: "the server is another one, or not a primary any more",
            redirected: "a node of the cluster redirected a read",
            slots_moved: "slots of the cluster moved",
            refused: "Redis refused to track reads"
          ] do
        log = capture_log(fn -> Events.handle(events, {:near_cache_ended, reason}) end)
        assert log =~ "[info] MyCache: emptied the near cache: #{text}\n"
      end
    end

    test "is logged once per second", %{events: events} do
      log =
        capture_log(fn ->
          Enum.reduce(1..5, events, fn _, events ->
            Events.handle(events, {:near_cache_ended, :connection_lost})
          end)
        end)

      assert (length(String.split(log, "emptied the near cache")) - 1) in 1..2
    end
  end

  describe "a near cache that Redis refuses" do
    test "is logged with the permissions it needs", %{events: events} do
      assert refused(events, [
               "NOPERM User ann has no permissions to run the 'client|tracking' command"
             ]) =~
               "[warning] MyCache: the near cache is off: Redis does not tell what changes, so all " <>
                 "reads go to Redis. Permit the commands HELLO and CLIENT TRACKING " <>
                 "(`+hello +client|tracking`), or remove :near_cache. Redis said: \"NOPERM User ann " <>
                 "has no permissions to run the 'client|tracking' command\"\n"
    end

    test "is logged with the version it needs", %{events: events} do
      assert refused(events, ["ERR unknown command `HELLO`"]) =~
               "reads go to Redis. It needs Redis 6.0 or later, and no proxy without RESP3. " <>
                 "Otherwise, remove :near_cache. Redis said: \"ERR unknown command `HELLO`\"\n"

      log = capture_log(fn -> Events.handle(events, {:near_cache_refused, {:protocol, %{}}}) end)
      assert log =~ "Otherwise, remove :near_cache\n"
    end

    test "is logged once for each kind of refusal", %{events: events} do
      replies = ["NOPERM a", "NOPERM b", "ERR c", "NOPROTO d"]
      log = refused(events, replies ++ replies)
      assert length(String.split(log, "the near cache is off")) - 1 == 3
    end
  end

  defp refused(events, replies) do
    capture_log(fn ->
      Enum.reduce(replies, events, fn reply, events ->
        [code | _] = String.split(reply)
        reason = {:server, %{code: code, reply: reply}}
        Events.handle(events, {:near_cache_refused, reason})
      end)
    end)
  end
end
