defmodule PowRedisCache.ReleaseTest do
  # Makes and runs a release of an app without Rust, as in a container that has only the release.
  use ExUnit.Case, async: true

  @moduletag :integration

  # A build may take minutes.
  @moduletag timeout: :infinity

  import PowRedisCache.Build

  alias PowRedisCache.RedisServer

  test "a release runs without sources and cargo, and writes nothing to its folder" do
    folder = folder!()
    package = copy_package!(Path.join(folder, "package"))
    app = copy_app!(Path.join(folder, "app"))

    environment =
      [
        {"MIX_ENV", "prod"},
        {"PACKAGE", "path:#{package}"},
        {"POW_REDIS_CACHE_PREBUILT", prebuild!(Path.join(folder, "prebuilt"))}
      ] ++ without_cargo()

    assert {_output, 0} = mix(app, ["release"], environment)
    release = Path.join(folder, "release")
    File.rename!(Path.join(app, "_build/prod/rel/app"), release)
    for gone <- ["app", "package", "prebuilt"], do: File.rm_rf!(Path.join(folder, gone))

    before = tree(release)
    url = RedisServer.url(:persistent_term.get(RedisServer))

    assert {output, 0} =
             System.cmd(Path.join(release, "bin/app"), ["eval", "App.run(#{inspect(url)})"],
               cd: folder,
               env: [{"RELEASE_TMP", folder} | without_cargo()],
               stderr_to_stdout: true
             )

    assert output =~ "App ran."
    assert changes(before, tree(release)) == []
  end
end
