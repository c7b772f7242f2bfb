defmodule PowRedisCache.Install.Dependencies do
  @moduledoc false
  # mix.exs depends on Pow and on this package.

  @behaviour PowRedisCache.Install

  alias PowRedisCache.Install.{Project, Source}

  @path "mix.exs"
  @pow ~s({:pow, "~> 1.0.39"})
  @package ~s({:pow_redis_cache, git: "https://github.com/OWNER/pow_redis_cache"})

  @impl true
  def check(project) do
    source = Project.source(project, @path)

    cond do
      not dependency?(source, :pow) ->
        {:by_hand, @path, "the dependency on Pow",
         "add this to the dependencies, and run mix deps.get:\n\n    #{@pow}\n"}

      dependency?(source, :pow_redis_cache) ->
        :present

      true ->
        add(source)
    end
  end

  defp add(source) do
    title = "the dependency on pow_redis_cache"

    with [first | _] <- dependencies(source),
         text when text != nil <- Source.insert_before(source, [{first, @package <> ","}]) do
      {:change, @path, title, text}
    else
      _ -> {:by_hand, @path, title, "add this to the dependencies:\n\n    #{@package}\n"}
    end
  end

  defp dependencies(source) do
    case source |> Source.module_body() |> Source.function_body(:deps) do
      [list] -> Source.literal(list) |> List.wrap()
      _other -> []
    end
  end

  defp dependency?(source, name) do
    Source.find(source, fn
      {:__block__, _, [{{:__block__, _, [^name]}, _requirement}]} -> true
      {:{}, _, [{:__block__, _, [^name]} | _]} -> true
      _other -> false
    end) == true
  end
end
