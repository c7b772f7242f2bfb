defmodule Mix.Tasks.PowRedisCache.Gen.Key do
  @shortdoc "Prints a new key for the option :seal"

  @moduledoc """
  Prints a new random key for the option `:seal`, with an id.

      mix pow_redis_cache.gen.key [--id ID]

  The output is one line, `id:key`, the key in base64:

      $ mix pow_redis_cache.gen.key --id 2026-11
      2026-11:<44 characters>

  Keep it where the app keeps its secrets, such as an environment variable. Several keys are joined by
  commas; the first one seals. In a release:

      bin/my_app eval "IO.puts(PowRedisCache.SealKeys.generate(\\"2026-11\\"))"

  ## Options

    * `--id` - the id of the key: 1 to 12 letters, digits, dots, hyphens or underscores. It is stored with
      each value, and must differ from the ids of the other keys. Defaults to today's date.
  """

  use Mix.Task

  alias PowRedisCache.SealKeys

  @impl true
  def run(arguments) do
    arguments |> id!() |> SealKeys.generate() |> Mix.shell().info()
  end

  defp id!(arguments) do
    case OptionParser.parse(arguments, strict: [id: :string]) do
      {options, [], []} ->
        options |> Keyword.get_lazy(:id, &today/0) |> check!()

      _other ->
        Mix.raise(
          "expected only --id ID, got other arguments. See mix help pow_redis_cache.gen.key"
        )
    end
  end

  defp today, do: Date.to_iso8601(Date.utc_today())

  defp check!(id) do
    if SealKeys.id?(id) do
      id
    else
      Mix.raise("expected --id to be 1 to 12 letters, digits, dots, hyphens or underscores")
    end
  end
end
