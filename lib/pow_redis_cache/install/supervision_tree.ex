defmodule PowRedisCache.Install.SupervisionTree do
  @moduledoc false
  # The app starts an instance before its endpoint.

  @behaviour PowRedisCache.Install

  alias PowRedisCache.Install.{PowConfig, Project, Source}

  @impl true
  def check(project) do
    backend = PowConfig.backend(project)
    {path, source, children} = children(project)
    modules = Enum.map(children, &module/1)
    instance = Enum.find_index(modules, &(&1 == backend))
    endpoint = project.endpoint && Enum.find_index(modules, &(&1 == project.endpoint))

    cond do
      instance == nil and endpoint == nil ->
        by_hand(path, "Redis in the supervision tree", "start this before the endpoint:", project)

      instance == nil ->
        text = Source.insert_before(source, [{Enum.at(children, endpoint), code(project) <> ","}])
        {:change, path, "Redis in the supervision tree", text}

      endpoint != nil and instance > endpoint ->
        by_hand(
          path,
          "Redis before the endpoint",
          "move it before the endpoint:",
          project
        )

      true ->
        :present
    end
  end

  @doc "Whether the app starts an instance with a URL that is not in its configuration."
  def own_url?(project) do
    backend = PowConfig.backend(project)
    {_path, _source, children} = children(project)

    case Enum.find(children, &(module(&1) == backend)) do
      nil -> false
      child -> not configured_url?(child)
    end
  end

  defp configured_url?(child) do
    {_child, found?} =
      Macro.prewalk(child, false, fn node, found? ->
        {node, found? or Source.literal(node) == :redis_url}
      end)

    found?
  end

  # The path of the file that starts the children, its source, and the children. Without a list of that
  # name, there are none.
  defp children(project) do
    path = project |> Project.grep("use Application") |> List.first("lib")

    case Project.source(project, path) do
      nil -> {path, nil, []}
      source -> {path, source, children_of(source)}
    end
  end

  defp children_of(source) do
    source
    |> Source.module_body()
    |> Source.function_body(:start)
    |> Enum.find_value([], fn
      {:=, _, [{:children, _, _}, list]} -> source_list(list)
      _other -> nil
    end)
  end

  defp source_list(list) do
    case Source.literal(list) do
      children when is_list(children) -> children
      _other -> nil
    end
  end

  defp module(child) do
    case Source.literal(child) do
      {module, _options} -> Source.alias_of(module)
      _other -> Source.alias_of(child)
    end
  end

  defp by_hand(path, title, what_to_do, project),
    do: {:by_hand, path, title, "#{what_to_do}\n\n    #{code(project)}\n"}

  defp code(project) do
    backend = inspect(PowConfig.backend(project))
    "{#{backend}, url: Application.fetch_env!(:#{project.app}, :redis_url)}"
  end
end
