defmodule PowRedisCache.Install.TestConfig do
  @moduledoc false
  # The tests of the app keep sessions in memory, unless config/test.exs has another store.

  @behaviour PowRedisCache.Install

  alias PowRedisCache.Install.{PowConfig, Project, Source}

  @path "config/test.exs"
  @title "the store of the tests"
  @option "cache_store_backend: Pow.Store.Backend.EtsCache"

  @impl true
  def check(project) do
    case Project.source(project, @path) do
      nil -> {:by_hand, @path, @title, "add this:\n\n    #{code(project)}\n"}
      source -> check(project, source, PowConfig.pairs(source, project.app))
    end
  end

  defp check(project, source, nil) do
    comment = "# Tests keep sessions in memory"
    change(project, Source.append(source, comment <> "\n" <> code(project)))
  end

  defp check(project, _source, :unusual), do: change(project, nil)

  defp check(project, source, pairs) do
    if PowConfig.value(pairs, :cache_store_backend),
      do: :present,
      else: change(project, Source.insert_before(source, [{hd(pairs), @option <> ","}]))
  end

  defp change(_project, nil),
    do: {:by_hand, @path, @title, "add this option of Pow:\n\n    #{@option}\n"}

  defp change(_project, text), do: {:change, @path, @title, text}

  defp code(project), do: "config :#{project.app}, :pow, #{@option}"
end
