defmodule Mix.Tasks.PowRedisCache.Install do
  @shortdoc "Sets this package up in a Phoenix app with Pow"

  @moduledoc """
  Looks at the app in the current folder, and prints what it lacks for this package. Run it after Pow's own
  task:

      mix pow.install
      mix pow_redis_cache.install
      mix pow_redis_cache.install --apply

  Shows the changes as a diff, file by file. With `--apply`, makes them:

  | file | |
  |---|---|
  | `mix.exs` | the dependency on this package |
  | `config/config.exs` | Pow's configuration with `cache_store_backend: PowRedisCache`; with `PowPersistentSession`, also `PowRedisCache.PersistentSessionStore` |
  | `config/runtime.exs` | the URL of Redis |
  | `config/test.exs` | Pow's own store in memory for the tests |
  | `lib/my_app/application.ex` | `PowRedisCache` before the endpoint |
  | `lib/my_app_web/endpoint.ex` | `PowRedisCache.Plug.RenewalGrace`, `PowRedisCache.Plug.TrackSession`, and the plugs of Pow if they are missing |

  Files are changed where they have the form that `mix phx.new` generates. For another form, it prints what
  to do by hand. A second run changes nothing.

  The exit status is 0 if nothing is missing or everything has been applied, and 1 if anything is left to
  do.
  """

  use Mix.Task

  alias PowRedisCache.Install

  @impl true
  def run(arguments) do
    case Install.run(File.cwd!(), apply: apply?(arguments)) do
      :ok -> :ok
      :incomplete -> exit({:shutdown, 1})
      {:error, message} -> Mix.raise(message)
    end
  end

  defp apply?(arguments) do
    case OptionParser.parse(arguments, strict: [apply: :boolean]) do
      {options, [], []} -> Keyword.get(options, :apply, false)
      {_options, rest, invalid} -> wrong!(rest ++ for({switch, _value} <- invalid, do: switch))
    end
  end

  defp wrong!([first | _]), do: Mix.raise("expected --apply or no argument, got: #{first}")
end
