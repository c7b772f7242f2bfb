defmodule PowRedisCache.Install.UserSchema do
  @moduledoc false
  # The app has a schema of users, or configures Pow's. Pow's own task generates it.

  @behaviour PowRedisCache.Install

  alias PowRedisCache.Install.{PowConfig, Project}

  @impl true
  def check(project) do
    if Project.grep(project, ~r/\bPow\.Ecto\.Schema\b/) != [] or PowConfig.configured?(project) do
      :present
    else
      {:by_hand, "lib", "Pow's own set-up",
       "run Pow's own task and the migration, and then this one again:\n\n" <>
         "    mix pow.install\n    mix ecto.migrate\n"}
    end
  end
end
