defmodule PowRedisCache.Install.Endpoint do
  @moduledoc false
  # The endpoint has the plugs of Pow and of this package, in their order.

  @behaviour PowRedisCache.Install

  alias PowRedisCache.Install.{PowConfig, Project, Source}
  alias PowRedisCache.Plug.{RenewalGrace, TrackSession}

  @title "the plugs in the endpoint"

  @impl true
  def check(project) do
    needed = needed(project)

    case project.endpoint && Project.file_of(project, project.endpoint) do
      nil -> {:by_hand, "lib", "the plugs in the endpoint", by_hand(needed, project)}
      path -> check(project, path, Project.source(project, path), needed)
    end
  end

  defp check(project, path, source, needed) do
    body = Source.module_body(source)
    order = body |> Enum.map(&plug/1) |> Enum.filter(&(&1 in needed))

    cond do
      order == needed ->
        :present

      order == Enum.filter(needed, &(&1 in order)) and List.first(order) == Plug.Session and
          not elsewhere?(project, path) ->
        add(project, path, source, insertions(body, needed, project))

      true ->
        {:by_hand, path, @title, by_hand(needed, project)}
    end
  end

  defp add(project, path, source, insertions) do
    case insertions != :none && Source.insert_before(source, insertions) do
      text when is_binary(text) -> {:change, path, @title, text}
      _other -> {:by_hand, path, @title, by_hand(needed(project), project)}
    end
  end

  defp needed(project) do
    cookie =
      if PowConfig.persistent_sessions?(project), do: [PowPersistentSession.Plug.Cookie], else: []

    [Plug.Session, RenewalGrace, Pow.Plug.Session] ++ cookie ++ [TrackSession]
  end

  # A plug of Pow may be in a pipeline of the router.
  defp elsewhere?(project, path) do
    Project.grep(project, ~r/\bplug[ (]+Pow\.Plug\.Session\b/) not in [[], [path]]
  end

  # Each plug that is missing goes before what follows the plug in front of it.
  defp insertions(body, [first | rest], project) do
    {insertions, _next} =
      Enum.flat_map_reduce(rest, following(body, first), fn module, next ->
        case following(body, module) do
          nil -> {[{next, code(module, project)}], next}
          following -> {[], following}
        end
      end)

    if Enum.any?(insertions, &match?({nil, _code}, &1)), do: :none, else: insertions
  end

  # The expression after a plug, or `nil`.
  defp following(body, module) do
    case Enum.drop_while(body, &(plug(&1) != module)) do
      [_plug, next | _] -> next
      _other -> nil
    end
  end

  defp plug({:plug, _, [module | _options]}), do: Source.alias_of(module)
  defp plug(_expression), do: nil

  defp by_hand(needed, project) do
    lines = for module <- tl(needed), do: "    #{code(module, project)}\n"
    "after Plug.Session, these plugs come in this order:\n\n#{lines}"
  end

  defp code(module, project) when module in [RenewalGrace, Pow.Plug.Session],
    do: "plug #{inspect(module)}, otp_app: :#{project.app}"

  defp code(module, _project), do: "plug #{inspect(module)}"
end
