defmodule PowRedisCache.NamesTest do
  # One name for one thing: names that were replaced by the field's own do not come back.
  use ExUnit.Case, async: true

  @root Path.expand("../..", __DIR__)

  # Ordinary words that are wrong only as names ("answer", "look", "told") cannot be checked this way.
  @replaced ~w(
    write_life FOREVER_MS LIFE_COMMANDS Life::
    repeat_front repeat_all skipped_queues Inbox inbox
    withdraw
    Courtesy courtesy give_way was_away CROWDED crowded_until Lookout
    no_reply_until Pace
    show_life answer_hopeless drop_late hang_up lose_connection
    gather_meanwhile step_front tell_whether_free
    keep_house housekeeping Upkeep upkeep LookAfter look_after write_owed take_owed
    Errand errand node_of
    memberships
    Examiner examiner Findings findings find_way Census census undershooting undershoots old_atoms
    calls_for_reconnect leaves_stream_in_order is_final
    AnyCertificate
    :unresolved :not_on_cluster :no_master :crashed :library
    lost_write
    Contender contender
    OldStore Stalls.start_link PowRedisCache.Peer PowRedisCache.Guide PowRedisCache.Load
    PowRedisCache.Failures PowRedisCache.Access
  )

  @files ~w(access.ex way.ex contents.ex findings.rs examination.rs census.rs inbox.rs link.rs pace.rs
    upkeep.rs look_after.rs route.rs failure.rs repairs.rs beside.ex extras.ex meter.ex contender.ex
    old_store.ex stalls.ex peer.ex)

  # The changelog names what was renamed, and a run of the benchmarks is kept as it was written.
  defp files do
    [
      "*.md",
      "mix.exs",
      "{bin,lib,mix,bench,guides,test,examples}/**/*",
      "native/*/{src,tests}/**/*"
    ]
    |> Enum.flat_map(&Path.wildcard(Path.join(@root, &1)))
    |> Enum.filter(&File.regular?/1)
    |> Enum.reject(&(&1 =~ ~r"/(_build|deps|target|runs|priv)/|/CHANGELOG\.md$|\.png$"))
    |> List.delete(__ENV__.file)
  end

  test "replaced names occur nowhere" do
    files = files()
    assert length(files) > 150

    names = Enum.map_join(@replaced, "|", &Regex.escape/1)
    replaced = ~r/(?<![[:alnum:]_])(?:#{names})(?![[:alnum:]_])/u

    found =
      for file <- files,
          text = File.read!(file),
          # Not in pictures.
          String.valid?(text) and text =~ replaced,
          {line, number} <- text |> String.split("\n") |> Enum.with_index(1),
          [name] <- Regex.scan(replaced, line),
          do: "#{Path.relative_to(file, @root)}:#{number}: #{name}"

    assert Enum.join(found, "\n") == ""
  end

  test "replaced files are gone" do
    assert for(file <- files(), Path.basename(file) in @files, do: file) == []
  end
end
