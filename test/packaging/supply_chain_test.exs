defmodule PowRedisCache.SupplyChainTest do
  # What is built, and what builds it, is pinned. The release workflow signs what it publishes.
  # `bin/deny` checks licenses, duplicates and sources of the Rust dependencies, `bin/sbom` makes the bills
  # of materials: `bin/test` runs both.
  use ExUnit.Case, async: true

  @root Path.expand("../..", __DIR__)
  @workflows Path.wildcard(Path.join(@root, ".github/workflows/*.yml"))
  @prebuild File.read!(Path.join(@root, ".github/workflows/prebuild.yml"))
  @deny File.read!(Path.join(@root, "deny.toml"))

  describe "workflows" do
    test "name each action by its commit, and in a comment by its version" do
      assert length(@workflows) == 2

      for file <- @workflows, [line] <- Regex.scan(~r/^.*\buses:.*$/m, File.read!(file)) do
        assert line =~ ~r"^ +- uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line
      end
    end

    test "use one version of an action" do
      used =
        for file <- @workflows,
            [_, action, version] <- Regex.scan(~r/uses: (\S+)@(.+)$/m, File.read!(file)),
            uniq: true,
            do: {action, version}

      assert length(used) == length(Enum.uniq_by(used, &elem(&1, 0)))
    end

    test "may only read, but for the job that publishes" do
      for file <- @workflows do
        text = File.read!(file)
        assert text =~ ~r/^permissions:\n  contents: read\n\n/m
        [_before | jobs] = Regex.split(~r/^  (?=[\w-]+:$)/m, text)

        for job <- jobs, job =~ "write" do
          assert [[_, "release"]] = Regex.scan(~r/\A([\w-]+):$/m, job)
          # Nothing is built or checked out there.
          refute job =~ ~r/checkout|cargo|mix |bin\//
        end
      end
    end

    test "leave no credentials in the clone" do
      for file <- @workflows do
        text = File.read!(file)
        clones = length(Regex.scan(~r/actions\/checkout@/, text))
        without = ~r/actions\/checkout@.*\n        with:\n          persist-credentials: false\n/
        assert clones > 0 and length(Regex.scan(without, text)) == clones
      end
    end
  end

  describe "the release" do
    test "signs libraries and bills of materials, and verifies that, before it publishes them" do
      [_, release] = String.split(@prebuild, "\n  release:\n")

      steps = [
        "sha256sum --check",
        "actions/attest@",
        "gh attestation verify",
        "gh release upload"
      ]

      positions = for step <- steps, do: release |> :binary.match(step) |> elem(0)
      assert positions == Enum.sort(positions)

      for pattern <- ["*.so", "*.cdx.json"] do
        assert release =~ ~r/subject-path: \|\n(.*\n)? +prebuilt\/#{Regex.escape(pattern)}\n/
        assert release =~ ~r/for file in .*#{Regex.escape(pattern)}/
      end
    end

    test "has a bill of materials for each target of a library" do
      [_, listed] = Regex.run(~r/^targets = \[\n(.*?)\]/ms, @deny)
      targets = for [_, target] <- Regex.scan(~r/^  "(.*)",$/m, listed), do: target
      assert length(targets) == 6
      # bin/sbom reads the targets from there: nothing else in the file looks like them.
      assert length(Regex.scan(~r/^  ".*",$/m, @deny)) == 6
      assert length(Regex.scan(~r/-eq 6/, @prebuild)) == 2
    end
  end

  test "each Rust dependency comes from crates.io, with its checksum" do
    packages =
      for file <- ~w(Cargo.lock bench/Cargo.lock native/pow_redis_core/fuzz/Cargo.lock),
          [_head | packages] =
            @root |> Path.join(file) |> File.read!() |> String.split("[[package]]\n"),
          package <- packages,
          # Those without one are in this repository.
          package =~ ~r/^source = /m,
          do: package

    assert length(packages) > 100

    for package <- packages do
      assert package =~
               ~r/^source = "registry\+https:\/\/github.com\/rust-lang\/crates.io-index"$/m

      assert package =~ ~r/^checksum = "[0-9a-f]{64}"$/m
    end
  end

  test "no Elixir dependency is required" do
    mix = File.read!(Path.join(@root, "mix.exs"))
    [deps] = Regex.run(~r/defp deps\(true\) do.*?(?=  defp docs)/s, mix)
    names = Regex.scan(~r/\{:(\w+), "/, deps)
    assert length(names) == 5

    for [_, dependency] <- Regex.scan(~r/(\{:\w+, ".*)$/m, deps) do
      assert dependency =~ ~r/optional: true|only: /, dependency
    end
  end

  test "the core has no unsafe code, and the NIF one function of it" do
    core = File.read!(Path.join(@root, "native/pow_redis_core/src/lib.rs"))
    assert core =~ "#![forbid(unsafe_code)]"

    nif =
      for file <- Path.wildcard(Path.join(@root, "native/pow_redis_nif/src/**/*.rs")),
          [line] <- Regex.scan(~r/^.*\bunsafe\b.*$/m, File.read!(file)),
          do: {Path.basename(file), String.trim(line)}

    assert [{"term.rs", _line}] = nif
  end
end
