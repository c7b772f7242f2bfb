defmodule PowRedisCache.Install do
  @moduledoc false
  # Sets the package up in an app: `mix pow_redis_cache.install`.

  alias PowRedisCache.Install.{
    Dependencies,
    Diff,
    Endpoint,
    PowConfig,
    Project,
    RedisUrl,
    SupervisionTree,
    TestConfig,
    UserSchema
  }

  # As long as these are left to do by hand, so are the others: mix pow.install expects generated files.
  @first_steps [Dependencies, UserSchema]

  # In the order of reading.
  @steps [
    PowConfig,
    RedisUrl,
    TestConfig,
    SupervisionTree,
    Endpoint
  ]

  @doc """
  What a step finds in a project: nothing missing; the text that a file should have; or what to do by hand.
  """
  @callback check(Project.t()) ::
              :present
              | {:change, Path.t(), String.t(), String.t()}
              | {:by_hand, Path.t(), String.t(), String.t()}

  # Returns :incomplete if anything is left to do.
  def run(folder, options) do
    apply? = Keyword.fetch!(options, :apply)

    with {:ok, project} <- Project.read(folder) do
      outcomes = outcomes(project)
      for outcome <- outcomes, do: carry_out(outcome, project, apply?)
      conclude(outcomes, apply?)
    end
  end

  defp outcomes(project) do
    first = outcomes(@first_steps, project)
    if Enum.any?(first, &by_hand?/1), do: first, else: first ++ outcomes(@steps, project)
  end

  defp by_hand?(outcome), do: elem(outcome, 0) == :by_hand

  defp outcomes(steps, project) do
    steps |> Enum.map(&outcome(&1, project)) |> Enum.reject(&(&1 == :present))
  end

  # A change is made only if the step then finds nothing missing. So a second run changes nothing.
  defp outcome(step, project) do
    with {:change, path, title, text} <- step.check(project) do
      if step.check(Project.put_text(project, path, text)) == :present,
        do: {:change, path, title, text},
        else: {:by_hand, path, title, "this file has an unusual form. See guides/pow.md."}
    end
  end

  defp carry_out({:change, path, title, text}, project, apply?) do
    print("#{if apply?, do: "✓ added", else: "✗ missing"}: #{title}\n")
    print(Diff.unified(path, Project.text(project, path), text))
    if apply?, do: project.folder |> Path.join(path) |> File.write!(text)
  end

  defp carry_out({:by_hand, path, title, what_to_do}, _project, _apply?) do
    print("✗ by hand: #{title}\n")
    print("#{path}: #{String.trim_trailing(what_to_do)}\n")
  end

  defp conclude([], _apply?) do
    print("Nothing to do.")
    :ok
  end

  defp conclude(outcomes, apply?) do
    by_hand = Enum.count(outcomes, &by_hand?/1)
    changes = length(outcomes) - by_hand

    if changes > 0 and not apply?,
      do: print("To make these changes: mix pow_redis_cache.install --apply")

    if changes > 0 and apply?, do: print("Changed #{files(changes)}.")
    if by_hand > 0, do: print("Left to do by hand: #{by_hand}, see above.")
    if by_hand == 0 and apply?, do: :ok, else: :incomplete
  end

  defp files(1), do: "1 file"
  defp files(number), do: "#{number} files"

  defp print(text), do: Mix.shell().info(text)
end
