defmodule PowRedisCache.Doctor.StartOrder do
  @moduledoc false
  # Which of two processes their supervisor starts first.

  @doc """
  Returns `:before` or `:after`, or `:unknown` if no supervisor starts both.
  """
  def of(pid, other) do
    case diverge(path(pid), path(other), nil) do
      {supervisor, child, other_child} -> position(supervisor, child, other_child)
      nil -> :unknown
    end
  end

  # The last process that is on both paths, and the next one on each.
  defp diverge([pid | path], [pid | other_path], _common), do: diverge(path, other_path, pid)
  defp diverge([child | _], [other | _], common) when common != nil, do: {common, child, other}
  defp diverge(_path, _other_path, _common), do: nil

  # From the first supervisor to the process itself.
  defp path(pid) do
    ancestors = for ancestor <- ancestors(pid), pid = to_pid(ancestor), do: pid
    Enum.reverse([pid | ancestors])
  end

  defp ancestors(pid), do: Keyword.get(dictionary(pid), :"$ancestors", [])

  defp to_pid(pid) when is_pid(pid), do: pid
  defp to_pid(name) when is_atom(name), do: Process.whereis(name)
  defp to_pid(_other), do: nil

  # Not for dynamic supervisors, whose children have no order.
  defp position(supervisor, child, other) do
    if match?({:supervisor, _module, _arity}, dictionary(supervisor)[:"$initial_call"]) do
      # The last started comes first.
      last_started =
        for {_id, pid, _type, _modules} <- Supervisor.which_children(supervisor),
            pid in [child, other],
            do: pid

      case last_started do
        [^other, ^child] -> :before
        [^child, ^other] -> :after
        _missing -> :unknown
      end
    else
      :unknown
    end
  end

  defp dictionary(pid) do
    case node(pid) == node() && Process.info(pid, :dictionary) do
      {:dictionary, dictionary} -> dictionary
      _not_here -> []
    end
  end
end
