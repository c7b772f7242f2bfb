defmodule PowRedisCache.Diagnosis do
  @moduledoc "What the tests of the doctor share: servers to examine, and readers of its checks."

  import ExUnit.Assertions
  import ExUnit.CaptureIO

  alias PowRedisCache.{Doctor, FakeServer, RedisClient}

  @doc "Returns the checks, and everything printed or inspected."
  def with_output(options) do
    checks = Doctor.check(options)
    result = if failed(checks) == [], do: :ok, else: :error
    output = capture_io(fn -> assert Doctor.run(options) == result end)
    {checks, output <> inspect(checks, limit: :infinity, printable_limit: :infinity)}
  end

  @doc "Starts a server that gives a function the commands after the login."
  def serve(function), do: FakeServer.start!([{:serve, function}], at: :login)

  @doc "Sets a parameter of the server's configuration."
  def set(client, name, value) do
    "OK" = RedisClient.command!(client, ["CONFIG", "SET", name, value])
    :ok
  end

  @doc "The number in a field of the reply to INFO."
  def line(info, field) do
    [_, value] = Regex.run(~r/^#{field}:(\d+)/m, info)
    value
  end

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
