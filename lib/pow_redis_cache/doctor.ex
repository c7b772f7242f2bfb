defmodule PowRedisCache.Doctor do
  @moduledoc """
  Looks at everything that lies between an app and its sessions, and says what to do where something
  is wrong: the native library, the options, the name and the address of the server, TLS, login,
  version, role, latency, memory, clients, permissions, clocks, and what lies in the database.

  In a project it is `mix pow_redis_cache.doctor`. In a release:

      bin/my_app rpc "PowRedisCache.Doctor.run()"

  It writes nothing, has a connection and a thread of its own, and shows no key, value or password.
  """

  alias PowRedisCache.{Commands, Endpoint, Instance, Native, Options, Server}
  alias PowRedisCache.Doctor.{Check, Checks, KeyspaceStats, Report}

  # Steps of an examination, each of which may take `:connect_timeout`, for each of a few servers.
  @steps 50
  # The longest that a `receive` waits.
  @longest 4_294_967_295

  @doc """
  Prints a report, and answers `:ok`, or `:error` where something does not work (`✗`).

  Without options it examines all instances that run in this VM; with `:name` alone, that one; else the
  server that the options name, which are those of `{PowRedisCache, options}`:

      PowRedisCache.Doctor.run(url: "rediss://localhost:6379", cacertfile: "ca.pem")

  Where no instance runs, it examines the server that the environment's `REDIS_URL` names.
  """
  @spec run(keyword()) :: :ok | :error
  def run(options \\ []) do
    reports = for {title, options} <- subjects(options), do: {title, check(options)}

    for {title, checks} <- reports do
      title |> Report.format(checks, Report.colours?()) |> IO.puts()
    end

    checks = Enum.flat_map(reports, &elem(&1, 1))
    if Enum.any?(checks, &(&1.status == :error)), do: :error, else: :ok
  end

  @doc """
  The checks of a report, in order. Options as for `run/1`, but it is about one subject: without options,
  the instance `PowRedisCache`.
  """
  @spec check(keyword()) :: [Check.t()]
  def check(options \\ []) do
    with :ok <- library(), {:ok, options} <- options(options) do
      Checks.all(options, examine(options))
    else
      {failed, detail, advice} -> Checks.without(failed, detail, advice)
    end
  end

  # What a report is about: a title, and the options of check/1.
  defp subjects([]) do
    case {Enum.sort(Instance.names()), System.get_env("REDIS_URL")} do
      {[], url} when url in [nil, ""] ->
        [{"No instance runs.", []}]

      {[], url} ->
        [{"No instance runs: the server that REDIS_URL names", [url: url]}]

      {names, _url} ->
        for name <- names, do: {inspect(name), [name: name]}
    end
  end

  defp subjects(options) do
    case running(options) do
      nil -> [{"The server that the options name", options}]
      name -> [{inspect(name), options}]
    end
  end

  # The name of the instance that is meant, unless it is a server.
  defp running([]), do: PowRedisCache
  defp running(name: name), do: name
  defp running(_options), do: nil

  defp library do
    if error = Native.load_error() do
      {"library", error,
       "Run `mix deps.compile pow_redis_cache --force` for the operating system and processor of this host."}
    else
      :ok
    end
  end

  defp options(options) do
    case running(options) do
      nil -> {:ok, Options.validate!(options)}
      name -> options_of(name)
    end
  rescue
    error in ArgumentError ->
      {"configuration", Exception.message(error),
       "Correct the option; PowRedisCache documents all."}
  end

  defp options_of(name) do
    {:ok, Server.options(name).()}
  catch
    :exit, _reason ->
      {"configuration", "#{inspect(name)} does not run in this VM",
       "Add {#{inspect(name)}, url: \"redis://…\"} to the children of the application's supervisor. To " <>
         "examine a server without it, name that: `mix pow_redis_cache.doctor --url redis://…`, or " <>
         "PowRedisCache.Doctor.run(url: \"redis://…\")."}
  end

  # In a process of its own, whose mailbox nobody else reads.
  defp examine(options) do
    task =
      Task.async(fn ->
        reference = make_ref()
        probes = Commands.probes(Options.topology(options))

        with :ok <-
               Native.doctor(Options.to_native(options), probes, KeyspaceStats.time(), reference) do
          timeout = min(options.connect_timeout * @steps + 2 * KeyspaceStats.time(), @longest)
          await(reference, Endpoint.provider(options), options.name, timeout)
        end
      end)

    Task.await(task, :infinity)
  end

  defp await(reference, provider, name, timeout) do
    receive do
      {^reference, outcome} ->
        outcome

      {:pow_redis_cache, {:resolve, request}} ->
        Endpoint.resolve(name, provider, request)
        await(reference, provider, name, timeout)
    after
      timeout -> {:error, {:timeout, %{}}}
    end
  end
end
