defmodule PowRedisCache.Doctor.Report do
  @moduledoc false
  # Formats checks as text, one line per check.

  @marks %{ok: "✓", warning: "!", error: "✗", skipped: "-"}
  @colours %{ok: :green, warning: :yellow, error: :red, skipped: :faint}

  @doc "Formats checks under a title."
  def format(title, checks, colours?) do
    width = checks |> Enum.map(&String.length(&1.name)) |> Enum.max()
    {skipped, completed} = Enum.split_with(checks, &(&1.status == :skipped))
    lines = Enum.map(completed, &line(&1, width, colours?))
    IO.iodata_to_binary([title, "\n", lines, skipped(skipped, colours?), summary(checks), "\n"])
  end

  @doc "Whether the output goes to a terminal of this VM."
  def colours?, do: IO.ANSI.enabled?() and node(Process.group_leader()) == node()

  defp line(check, width, colours?) do
    name = String.pad_trailing(check.name, width)

    ["  ", mark(check.status, colours?), " ", name, "  ", check.detail, "\n"] ++
      advice(check.advice, width)
  end

  # One line for all checks that were skipped for the same reason.
  defp skipped(checks, colours?) do
    for {detail, checks} <- Enum.group_by(checks, & &1.detail) do
      names = Enum.map_join(checks, ", ", & &1.name)
      ["  ", mark(:skipped, colours?), " skipped, ", detail, ": ", names, "\n"]
    end
  end

  defp mark(status, colours?), do: IO.ANSI.format([@colours[status], @marks[status]], colours?)

  defp advice(nil, _width), do: []
  defp advice(text, width), do: [String.duplicate(" ", width + 6), "→ ", text, "\n"]

  defp summary(checks) do
    case for status <- [:error, :warning], do: Enum.count(checks, &(&1.status == status)) do
      [0, 0] -> "  All checks passed."
      [errors, warnings] -> "  ✗ #{errors}, ! #{warnings}"
    end
  end
end
