defmodule Plain.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    url = System.get_env("REDIS_URL", "redis://localhost:6379")
    Supervisor.start_link([{PowRedisCache, url: url}], strategy: :one_for_one)
  end
end
