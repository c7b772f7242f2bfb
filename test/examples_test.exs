defmodule PowRedisCache.ExamplesTest do
  # The example that needs nothing but this package runs, in VMs of its own.
  use PowRedisCache.Case

  @folder Path.expand("../examples/plain", __DIR__)

  # The demo shows all keys of its server.
  @tag :standalone
  @tag server: [], instance: [name: nil]
  test "plain", %{server: server} do
    build = Path.join(server.folder, "build")

    environment = [
      {"REDIS_URL", RedisServer.url(server)},
      {"MIX_ENV", "prod"},
      {"MIX_BUILD_PATH", build}
    ]

    mix = fn arguments ->
      System.cmd("mix", arguments, cd: @folder, env: environment, stderr_to_stdout: true)
    end

    assert {output, 0} = mix.(["compile", "--warnings-as-errors"])
    # The library is there already.
    refute output =~ "cargo"

    assert {output, 0} = mix.(["run", "demo.exs", "before_deploy"])
    assert output =~ ~s(Her sessions\n  ["laptop", "phone"])

    assert output =~
             ~r/\["credentials", Plain.User, :user, 1, :session, "phone"\], 1[78]\d\d s left/

    assert {output, 0} = mix.(["run", "demo.exs", "after_deploy"])
    assert output =~ ~s(Her sessions\n  ["phone", "tablet"])
    assert output =~ "She signs out everywhere"
  end
end
