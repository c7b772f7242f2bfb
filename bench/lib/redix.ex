defmodule PowRedisCache.Bench.Redix do
  @moduledoc """
  Redix, if it is available: `POW_REDIS_CACHE_REDIX` lists the ebin folders of Redix and its
  dependencies, separated by colons.
  """

  def name, do: "Redix"

  def available? do
    for folder <- "POW_REDIS_CACHE_REDIX" |> System.get_env("") |> String.split(":", trim: true) do
      true = Code.append_path(folder)
    end

    Code.ensure_loaded?(Redix)
  end

  def version, do: System.get_env("POW_REDIS_CACHE_REDIX_VERSION", "unknown")

  # Not a dependency: `apply/3` avoids compiler warnings about an unknown module.
  def start!(port, database) do
    options = [host: "127.0.0.1", port: port, database: database]
    {:ok, client} = apply(Redix, :start_link, [options])
    client
  end

  def stop(client), do: apply(Redix, :stop, [client])

  def command!(client, command), do: apply(Redix, :command!, [client, command])

  def pipeline(client, commands), do: apply(Redix, :pipeline, [client, commands])
end
