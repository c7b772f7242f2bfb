defmodule PowRedisCache.ExamplesTest do
  # Runs the plain example in separate VMs. The Phoenix example has its own tests; here its code is
  # compared with the guide.
  use PowRedisCache.Case

  @moduletag :integration

  @root Path.expand("../..", __DIR__)

  # The demo lists all keys of its server.
  @tag :standalone
  @tag server: [], instance: [name: nil]
  test "examples/plain runs", %{server: server} do
    build = Path.join(server.folder, "build")

    environment = [
      {"REDIS_URL", RedisServer.url(server)},
      {"MIX_ENV", "prod"},
      {"MIX_BUILD_PATH", build}
    ]

    mix = fn arguments ->
      System.cmd("mix", arguments,
        cd: Path.join(@root, "examples/plain"),
        env: environment,
        stderr_to_stdout: true
      )
    end

    assert {output, 0} = mix.(["compile", "--warnings-as-errors"])
    # The library has already been built.
    refute output =~ "cargo"

    assert {output, 0} = mix.(["run", "demo.exs", "before_deploy"])
    assert output =~ ~s(Her sessions\n  ["laptop", "phone"])

    assert output =~
             ~r/\["credentials", Plain.User, :user, 1, :session, "phone"\], 1[78]\d\d s left/

    assert {output, 0} = mix.(["run", "demo.exs", "after_deploy"])
    assert output =~ ~s(Her sessions\n  ["phone", "tablet"])
    assert output =~ "She signs out everywhere"
  end

  for guide <- ~w(pow devices testing) do
    test "guides/#{guide}.md shows the code of examples/phoenix" do
      guide = File.read!(Path.join(@root, "guides/#{unquote(guide)}.md"))
      blocks = for [_, block] <- Regex.scan(~r/```elixir\n(.*?)```/s, guide), do: block
      assert length(blocks) > 1
      for block <- blocks, do: compare(block)
    end
  end

  # A block begins with a comment that has the path of the file.
  defp compare(block) do
    [_, path, code] = Regex.run(~r/\A# (\S+)\n(.*)\z/s, block)
    file = [@root, "examples/phoenix", path] |> Path.join() |> File.read!() |> outdent()

    for part <- code |> outdent() |> String.split("# ...\n") do
      assert file =~ part, "#{path} has no:\n#{part}"
    end
  end

  defp outdent(code), do: String.replace(code, ~r/^ +/m, "")
end
