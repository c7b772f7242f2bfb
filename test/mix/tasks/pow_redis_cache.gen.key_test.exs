defmodule PowRedisCache.GenKeyTaskTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO

  alias Mix.Tasks.PowRedisCache.Gen.Key
  alias PowRedisCache.SealKeys

  test "prints a key that :seal takes" do
    today = Date.to_iso8601(Date.utc_today())

    for {arguments, ids} <- [
          # Midnight may pass.
          {[], [today, Date.to_iso8601(Date.utc_today())]},
          {["--id", "2026-11"], ["2026-11"]}
        ] do
      text = capture_io(fn -> Key.run(arguments) end)
      assert {:ok, [{id, <<_::binary-size(32)>>}]} = SealKeys.resolve(text)
      assert id in ids or id > today
    end
  end

  test "says what is wrong with its arguments" do
    for {arguments, message} <- [
          {["--id", "a:b"], "expected --id to be 1 to 12 letters"},
          {["--id", "1234567890123"], "expected --id to be 1 to 12 letters"},
          {["--key", "s3cret"], "expected only --id ID, got other arguments"},
          {["s3cret"], "expected only --id ID, got other arguments"}
        ] do
      error = assert_raise Mix.Error, fn -> Key.run(arguments) end
      assert Exception.message(error) =~ message
      refute Exception.message(error) =~ "s3cret"
    end
  end
end
