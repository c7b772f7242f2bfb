defmodule PowRedisCache.Reseal do
  @moduledoc false
  # Writes all values again in the form in which they are written today, page by page.

  alias PowRedisCache.{Instance, Pages, Server}

  # How many values are read at the start of an instance that refuses plain ones.
  @sample 10_000

  def run(options) do
    options =
      options
      |> Keyword.validate!(name: PowRedisCache, dry_run: false, progress: nil)
      |> Pages.validate!([:dry_run])

    Instance.fetch!(options.name, :reseal)

    if Server.options(options.name).().seal == nil do
      raise ArgumentError,
            "expected an instance with :seal, but #{inspect(options.name)} has none"
    end

    numbers = Map.new([:keys, :resealed, :changed, :unopened, :skipped], &{&1, 0})
    Pages.sum(options, :reseal, & &1, numbers)
  end

  @doc """
  Counts the values that are not sealed among the first 10,000, in a new process, and reports them to
  the owner of the instance.
  """
  def report_plain(name) do
    spawn(fn ->
      %{keys: keys, plain: plain} = count_plain(name)
      if plain > 0, do: Instance.report(name, {:plain_values, plain, keys})
    end)

    :ok
  end

  # Without Redis, nothing is known.
  defp count_plain(name) do
    Pages.sample(name, :reseal, @sample, %{keys: 0, plain: 0})
  rescue
    PowRedisCache.Error -> %{keys: 0, plain: 0}
  end
end
