defmodule PowRedisCache.Diagnosis do
  @moduledoc "Reads the checks of a doctor's report."

  import ExUnit.Assertions

  @doc "The check with this name."
  def check(checks, name), do: Enum.find(checks, &(&1.name == name))

  def detail(checks, name), do: check(checks, name).detail
  def advice(checks, name), do: check(checks, name).advice

  @doc "The names of the checks that failed."
  def failed(checks), do: with_status(checks, :error)

  @doc "The names of the checks that warn, except `latency`: a busy machine may be slow."
  def warned(checks), do: with_status(checks, :warning) -- ["latency"]

  @doc "The names of the checks that were skipped."
  def skipped(checks), do: with_status(checks, :skipped)

  defp with_status(checks, status) do
    found = for check <- checks, check.status == status, do: check

    # Every problem comes with advice.
    if status in [:error, :warning], do: for(check <- found, do: assert(is_binary(check.advice)))
    Enum.map(found, & &1.name)
  end
end
