defmodule PowRedisCache.DocumentsTest do
  # The documents are complete, their code runs, their numbers are current, and their links work.
  use PowRedisCache.Case

  alias PowRedisCache.{Commands, DocumentTables}

  @root Path.expand("../..", __DIR__)
  @readme File.read!(Path.join(@root, "README.md"))
  @reliability File.read!(Path.join(@root, "guides/reliability.md"))
  @performance File.read!(Path.join(@root, "guides/performance.md"))

  @source_url Mix.Project.config()[:source_url]

  defp snippets, do: for([_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, @readme), do: code)

  describe "the README" do
    test "has 700 to 1,000 words" do
      assert length(String.split(@readme)) in 700..1_000
    end

    @tag instance: [name: PowRedisCache]
    test "shows calls that return what the lines below them show" do
      code = Enum.find(snippets(), &(&1 =~ "PowRedisCache.get(config"))
      # Compares each result with the line above it.
      checked = Regex.replace(~r/^(.+)\n#=> (.+)$/m, code, "true = (\\1) == \\2")
      assert length(Regex.scan(~r/^true = /m, checked)) == 2
      Code.eval_string(checked)
    end

    test "shows code that is Elixir" do
      for code <- snippets(), do: assert({:ok, _} = Code.string_to_quoted(code))
    end

    test "installs the package in at most 15 lines" do
      [installation] = Regex.run(~r/## Installation\n.*?\n## /s, @readme)
      code = for [_, code] <- Regex.scan(~r/```elixir\n(.*?)```/s, installation), do: code
      assert code |> Enum.join() |> String.split("\n", trim: true) |> length() <= 15
    end

    test "shows options with their defaults" do
      [configuration] = Regex.run(~r/## Configuration\n.*?\n## /s, @readme)
      rows = Regex.scan(~r/^\| `:(\w+)` \| `(.+?)` \|/m, configuration)
      assert length(rows) == 6
      options = PowRedisCache.Options.validate!([])

      for [_, name, default] <- rows do
        {shown, _binding} = Code.eval_string(default)
        assert Map.fetch!(options, String.to_existing_atom(name)) == shown
      end
    end

    test "shows the rates of the newest run" do
      [_, chart] = Regex.run(~r/## Performance\n.*?```text\n(.*?)```/s, @readme)
      rows = for "| " <> row <- String.split(@performance, "\n"), do: String.split(row, " | ")

      for scenario <- ["get", "sign-in", "sessions of a user, 1000000 keys"] do
        [_, "64" | cells] = Enum.find(rows, &match?([^scenario, "64" | _], &1))
        for cell <- Enum.take(cells, 3), do: assert(chart =~ " #{hd(String.split(cell))}\n")
      end
    end
  end

  test "the documentation of the module has each option with its default" do
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(PowRedisCache)

    for {name, default} <- PowRedisCache.Options.validate!([]) do
      [line] = Regex.run(~r/^  \* `#{inspect(name)}` - .+$/m, doc)
      assert line =~ "Defaults to `#{inspect(default)}`."
    end
  end

  test "each row of the reliability guide has a test" do
    tables = DocumentTables.read(@reliability)
    assert length(tables) == 2

    for {rows, files} <- tables do
      assert length(rows) > 10
      assert length(rows) == length(files)

      for file <- files do
        assert file =~ ~r/_test\.exs$|^native.*\.rs$/
        assert File.regular?(Path.join(@root, file)), file
      end
    end
  end

  describe "the security pages" do
    @pages ["SECURITY.md", "guides/security.md"]

    test "name a test for each row of each table" do
      for page <- @pages, text = File.read!(Path.join(@root, page)) do
        tables = Regex.scan(~r/^\|.*?\n\n.*?(?=^\||^#|\z)/ms, text)
        assert length(tables) == if(page == "SECURITY.md", do: 3, else: 8)

        for [table] <- tables do
          [rows] = Regex.run(~r/\A(?:\|.*\n)+/, table)
          [_, tests] = Regex.run(~r/<!-- The tests of these rows:\n(.*?)-->/s, table)
          tested = for [_, row] <- Regex.scan(~r/^(\d+) \S/m, tests), uniq: true, do: row
          # Without the head and the line below it.
          count = length(String.split(rows, "\n", trim: true)) - 2
          assert tested == for(row <- 1..count, do: "#{row}"), rows
        end
      end
    end

    test "name tests that exist" do
      for page <- @pages,
          [_, tests] <-
            Regex.scan(~r/<!-- The tests of .*?:\n(.*?)-->/s, File.read!(Path.join(@root, page))),
          line <- String.split(tests, "\n", trim: true) do
        assert [_, file, name] = Regex.run(~r/^(?:\d+ )?(\S+): (.+)$/, line)
        text = File.read!(Path.join(@root, file))

        if String.ends_with?(file, ".rs"),
          do: assert(text =~ ~r/\bfn #{Regex.escape(name)}\(/, line),
          else: assert(text =~ ~s(test "#{name}), line)
      end
    end

    test "show options that are valid" do
      guide = File.read!(Path.join(@root, "guides/security.md"))
      [_, code] = Regex.run(~r/```elixir\n(.*?)```/s, guide)
      {{PowRedisCache, options}, _binding} = Code.eval_string(code)
      assert %{decode: :safe} = PowRedisCache.Options.validate!(options)
    end

    test "have the ACL line" do
      guide = File.read!(Path.join(@root, "guides/security.md"))
      rules = Commands.key_rules() ++ Commands.acl_rules(:standalone)
      [line] = Regex.run(~r/^ACL SETUSER app .*?(?=```)/ms, guide)
      assert String.split(line) == ~w(ACL SETUSER app on >PASSWORD) ++ rules

      for topology <- [:sentinel, :cluster] do
        more = Commands.acl_rules(topology) -- Commands.acl_rules(:standalone)
        assert guide =~ "`#{Enum.join(more, " ")}`"
      end
    end

    test "have the rules of a near cache, as its guide has" do
      for topology <- [:standalone, :sentinel, :cluster],
          more = Commands.acl_rules(topology, true) -- Commands.acl_rules(topology),
          page <- ["guides/security.md", "guides/near_cache.md"] do
        text = @root |> Path.join(page) |> File.read!() |> String.replace("\\|", "|")
        assert text =~ "`#{Enum.join(more, " ")}`", page
      end
    end
  end

  test "the performance guide has the numbers and the chart of the newest run" do
    newest = @root |> Path.join("bench/runs/20*.md") |> Path.wildcard() |> Enum.max()
    [summary, _in_full] = newest |> File.read!() |> String.split("\n\n## In full")
    assert @performance =~ summary
    assert @performance =~ "bench/runs/#{Path.basename(newest)}"

    chart = File.read!(Path.rootname(newest) <> ".svg")
    assert File.read!(Path.join(@root, "guides/assets/performance.svg")) == chart
  end

  describe "links" do
    test "lead to files that exist" do
      for document <- documents(), link <- links(document), path = path(document, link) do
        assert File.exists?(Path.join(@root, path)), "#{document}: #{link}"
      end
    end

    test "between published documents lead to published documents" do
      extras = extras()
      assets = for {folder, _} <- Mix.Project.config()[:docs][:assets], do: folder

      for document <- extras, link <- links(document), not (link =~ "://") do
        path = path(document, link)
        assert path in extras or Path.dirname(path) in assets, "#{document}: #{link}"
      end
    end

    test "all guides are published" do
      guides = for path <- Path.wildcard(Path.join(@root, "guides/*.md")), do: relative(path)
      assert guides -- extras() == []
    end
  end

  describe "the repository's URL" do
    test "is the declared one everywhere" do
      for {file, text} <- text_files(),
          [url] <-
            Regex.scan(
              ~r{(?:://|git@)[\w.…-]+[/:](?:[\w.…-]+/)*?pow_redis_cache(?:\.git)?}u,
              text
            ),
          not (url =~ ~r{^://hex(docs)?\.pm/}) do
        assert "https" <> url == @source_url, "#{file}: #{url}"
      end
    end

    test "installs the package everywhere, until it is on Hex" do
      sources =
        for {file, text} <- text_files(),
            [_, source] <- Regex.scan(~r/\{:pow_redis_cache, (.+)/, text) do
          refute String.starts_with?(source, "\""), "#{file}: a version on Hex: #{source}"
          source
        end

      git = ~s[git: "#{@source_url}"}]
      assert Enum.count(sources, &String.starts_with?(&1, git)) > 3
    end
  end

  defp extras, do: Mix.Project.config()[:docs][:extras]

  # Markdown files, relative to the root.
  defp documents do
    for folder <- ["", "guides", "bench", "examples/*"],
        path <- Path.wildcard(Path.join([@root, folder, "*.md"])),
        do: relative(path)
  end

  defp relative(path), do: Path.relative_to(path, @root)

  defp links(document) do
    text = File.read!(Path.join(@root, document))
    for [_, link] <- Regex.scan(~r/\]\(([^)\s#]+)(?:#[^)\s]*)?\)/, text), do: link
  end

  # Where in the repository a link leads; nil for other sites.
  defp path(document, link) do
    source = @source_url

    case String.split(link, ~r{/(blob|tree)/main/}, parts: 2) do
      [^source, path] -> path
      [link] -> unless link =~ "://", do: relative(Path.expand(link, folder(document)))
      _other -> nil
    end
  end

  defp folder(document), do: @root |> Path.join(document) |> Path.dirname()

  defp text_files do
    folders = "{.github,bench,bin,examples,guides,lib,mix,native,test}/**/*"

    for pattern <- ["*", folders],
        path <- Path.wildcard(Path.join(@root, pattern), match_dot: true),
        File.regular?(path),
        not (path =~ ~r{/(_build|deps|target|node_modules)/}),
        text = File.read!(path),
        String.valid?(text),
        do: {relative(path), text}
  end
end
