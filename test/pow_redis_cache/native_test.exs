defmodule PowRedisCache.NativeTest do
  # The boundary to the native library.
  use ExUnit.Case, async: true

  alias PowRedisCache.Native

  test "the stubs match the functions that the library exports" do
    stubs = Native.__info__(:functions) -- [load: 0, load_error: 0, path: 0]
    assert Enum.sort(stubs) == Enum.sort(Native.module_info(:nifs))
  end

  # Each runs in a new VM, with a copy of the application whose library is missing or corrupt.
  for {title, change} <- [missing: :rm, corrupt: :write] do
    test "starting with a #{title} library raises a readable error" do
      output = run_with_library(unquote(change), "PowRedisCache.start_link([])")
      assert output =~ "start failed: the native library "
      assert output =~ "could not be loaded (load_failed)"
      assert output =~ "Run `mix deps.compile pow_redis_cache --force`"

      output = run_with_library(unquote(change), "IO.inspect(PowRedisCache.Doctor.run())")
      assert output =~ ~r/^  ✗ library        the native library .* could not be loaded/mu
      assert output =~ "→ Run `mix deps.compile pow_redis_cache --force`"
      assert output =~ "skipped, needs library: configuration, endpoint, "
      assert output =~ ~r/^:error$/m
    end
  end

  defp run_with_library(change, code) do
    folder =
      Path.join(
        System.tmp_dir!(),
        "pow_redis_cache_#{System.pid()}_#{System.unique_integer([:positive])}_#{change}"
      )

    application = Path.join(folder, "pow_redis_cache")
    File.mkdir_p!(application)
    on_exit(fn -> File.rm_rf!(folder) end)
    File.cp_r!(Application.app_dir(:pow_redis_cache, "ebin"), Path.join(application, "ebin"))
    File.mkdir_p!(Path.join(application, "priv/native"))

    if change == :write,
      do: File.write!(Path.join(application, "priv/native/pow_redis_nif.so"), "no library")

    {output, _status} =
      System.cmd(
        "elixir",
        ["-pa", Path.join(application, "ebin"), "-e", code],
        stderr_to_stdout: true
      )

    output
  end
end
