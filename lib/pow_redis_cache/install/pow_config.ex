defmodule PowRedisCache.Install.PowConfig do
  @moduledoc false
  # The configuration of Pow in config/config.exs has this package's stores.

  @behaviour PowRedisCache.Install

  alias PowRedisCache.Install.{Project, Source}

  @path "config/config.exs"
  @title "the stores in Pow's configuration"
  @backend "cache_store_backend: PowRedisCache"
  @tokens "persistent_session_store: {PowRedisCache.PersistentSessionStore, []}"

  @impl true
  def check(project) do
    case Project.source(project, @path) do
      nil -> {:by_hand, @path, @title, "add this:\n\n#{indented_block(project)}"}
      source -> check(project, source)
    end
  end

  defp check(project, source) do
    case pairs(source, project.app) do
      nil ->
        add_block(project, source)

      :unusual ->
        {:by_hand, @path, @title, "add the options that are missing:\n\n    #{@backend}\n"}

      pairs ->
        check_pairs(project, source, pairs)
    end
  end

  defp check_pairs(project, source, pairs) do
    backend = value(pairs, :cache_store_backend)

    cond do
      backend != nil and not backend?(project, Source.alias_of(backend)) ->
        {:by_hand, @path, "the backend in Pow's configuration",
         "change its option. guides/migrating.md tells whether sessions can stay:\n\n    #{@backend}\n"}

      missing(pairs) == [] ->
        :present

      true ->
        change(source, Enum.map(missing(pairs), &{hd(pairs), &1 <> ","}))
    end
  end

  defp missing(pairs) do
    backend = if value(pairs, :cache_store_backend) == nil, do: [@backend], else: []

    tokens =
      if persistent_sessions_among?(pairs) and value(pairs, :persistent_session_store) == nil,
        do: [@tokens],
        else: []

    backend ++ tokens
  end

  defp change(source, insertions) do
    case Source.insert_before(source, insertions) do
      nil -> {:by_hand, @path, @title, "add the options that are missing:\n\n    #{@backend}\n"}
      text -> {:change, @path, @title, text}
    end
  end

  # Before the last line, which imports the configuration of the environment.
  defp add_block(project, source) do
    imported = source |> Source.expressions() |> Enum.find(&match?({:import_config, _, _}, &1))
    block = block(project)

    text =
      if imported,
        do: Source.insert_before(source, [{imported, block <> "\n"}]),
        else: Source.append(source, block)

    {:change, @path, "Pow's configuration", text}
  end

  defp block(project) do
    """
    # Users and sessions
    config :#{project.app}, :pow,
      user: #{inspect(Project.user(project))},
      repo: #{inspect(Project.repo(project))},
      #{@backend}\
    """
  end

  defp indented_block(project), do: project |> block() |> String.replace(~r/^/m, "    ")

  @doc "The pairs of the configuration of Pow, `nil` without one, or `:unusual`."
  def pairs(source, app) do
    source
    |> Source.expressions()
    |> Enum.find_value(fn
      {:config, _, [name, key, options]} ->
        if Source.literal(name) == app and Source.literal(key) == :pow, do: pairs(options)

      _other ->
        nil
    end)
  end

  defp pairs([_ | _] = pairs), do: pairs

  defp pairs(options) do
    case Source.literal(options) do
      [{_key, _value} | _] = pairs -> pairs
      _other -> :unusual
    end
  end

  @doc "The value of a key among pairs, or `nil`."
  def value(pairs, key) do
    Enum.find_value(pairs, fn
      {{:__block__, _, [^key]}, value} -> value
      _other -> nil
    end)
  end

  @doc "Whether config/config.exs configures Pow."
  def configured?(project) do
    source = Project.source(project, @path)
    source != nil and pairs(source, project.app) != nil
  end

  @doc "Whether an app uses Pow's extension for persistent sessions."
  def persistent_sessions?(project) do
    source = Project.source(project, @path)

    case source && pairs(source, project.app) do
      [_ | _] = pairs -> persistent_sessions_among?(pairs)
      _other -> false
    end
  end

  defp persistent_sessions_among?(pairs) do
    extensions = pairs |> value(:extensions) |> Source.literal() |> List.wrap()
    Enum.any?(extensions, &(Source.alias_of(&1) == PowPersistentSession))
  end

  @doc "The backend that the configuration names, by default this package's."
  def backend(project) do
    with %Source{} = source <- Project.source(project, @path),
         [_ | _] = pairs <- pairs(source, project.app),
         module when module != nil <- Source.alias_of(value(pairs, :cache_store_backend)) do
      module
    else
      _ -> PowRedisCache
    end
  end

  # This package's own, or one that the app defines with it.
  defp backend?(_project, PowRedisCache), do: true
  defp backend?(_project, nil), do: false

  defp backend?(project, module) do
    path = Project.file_of(project, module)
    path != nil and Project.text(project, path) =~ ~r/use PowRedisCache\s/
  end
end
