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
  the owner of the instance. Without Redis, nothing is known.
  """
  def report_plain(name) do
    spawn(fn ->
      try do
        %{keys: keys, plain: plain} = Pages.sample(name, :reseal, @sample, %{keys: 0, plain: 0})
        Instance.report(name, {:plain_values, plain, keys})
      rescue
        PowRedisCache.Error -> :unknown
      end
    end)

    :ok
  end
end
