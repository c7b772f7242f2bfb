defmodule PowRedisCache.Install.RedisUrl do
  @moduledoc false
  # config/runtime.exs reads the URL of Redis, unless the app's instance has one from elsewhere.

  @behaviour PowRedisCache.Install

  alias PowRedisCache.Install.{PowConfig, Project, Source, SupervisionTree}

  @path "config/runtime.exs"
  @title "the URL of Redis"

  @impl true
  def check(project) do
    if SupervisionTree.own_url?(project) or configured?(project),
      do: :present,
      else: add(project, Project.source(project, @path))
  end

  defp add(project, nil),
    do:
      {:by_hand, @path, @title, "create it with:\n\n    import Config\n\n    #{code(project)}\n"}

  # Before the part for production, which is the last one.
  defp add(project, source) do
    production = source |> Source.expressions() |> Enum.find(&production?/1)

    text =
      if production,
        do: Source.insert_before(source, [{production, code(project) <> "\n"}]),
        else: Source.append(source, code(project))

    {:change, @path, @title, text}
  end

  defp code(project) do
    ~s|config :#{project.app}, redis_url: System.get_env("REDIS_URL", "redis://localhost:6379")|
  end

  defp production?({:if, _, [{:==, _, [{:config_env, _, _}, environment]}, _]}),
    do: Source.literal(environment) == :prod

  defp production?(_expression), do: false

  # In any file but that of the tests.
  defp configured?(project) do
    Enum.any?(project.files, fn {path, _text} ->
      String.starts_with?(path, "config/") and path != "config/test.exs" and
        names_url?(Project.source(project, path), project.app)
    end)
  end

  defp names_url?(nil, _app), do: false

  defp names_url?(source, app) do
    Source.find(source, fn
      {:config, _, [name, key_or_pairs | _value]} ->
        Source.literal(name) == app and url?(key_or_pairs)

      _other ->
        false
    end) == true
  end

  defp url?([_ | _] = pairs), do: PowConfig.value(pairs, :redis_url) != nil
  defp url?(key), do: Source.literal(key) == :redis_url
end
