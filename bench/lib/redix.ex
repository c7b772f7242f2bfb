defmodule PowRedisCache.Bench.Redix do
  @moduledoc """
  Redix, where it is on the code path: `POW_REDIS_CACHE_REDIX` names its folder of beams and those of
  what it needs, with colons between.
  """

  @compile {:no_warn_undefined, Redix}

  def name, do: "Redix"

  def available? do
    for folder <- "POW_REDIS_CACHE_REDIX" |> System.get_env("") |> String.split(":", trim: true) do
      true = Code.append_path(folder)
    end

    Code.ensure_loaded?(Redix)
  end

  def version, do: System.get_env("POW_REDIS_CACHE_REDIX_VERSION", "unknown")

  def start!(port, database) do
    {:ok, client} = Redix.start_link(host: "127.0.0.1", port: port, database: database)
    client
  end

  def stop(client), do: Redix.stop(client)

  def command!(client, command), do: Redix.command!(client, command)

  def pipeline(client, commands), do: Redix.pipeline(client, commands)
end
