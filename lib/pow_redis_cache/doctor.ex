defmodule PowRedisCache.Doctor do
  @moduledoc """
  Checks everything between an app and its sessions in Redis, and reports how to fix problems: the
  native library, options, endpoint, DNS, connection, TLS, login, server version, role, latency,
  memory, eviction, persistence, clients, permissions, clock, keys, index and near cache. In an app with Pow, it
  also checks the configuration of Pow, the supervision tree and the endpoint.

  In a project, run `mix pow_redis_cache.doctor`. In a release:

      bin/my_app rpc "PowRedisCache.Doctor.run()"

  The doctor prints no key, value or password, and writes nothing to Redis, with one exception: if the
  target has a `:near_cache`, it writes a key of its own, to see how soon Redis reports the change, and
  deletes it again. It uses its own connections and its own thread.
  """

  alias PowRedisCache.{Commands, Endpoint, Instance, Native, Options, Server}
  alias PowRedisCache.Doctor.{Check, Checks, KeyspaceStats, PowApp, Report}

  # An upper bound of the steps, over several servers. Each may take `:connect_timeout`.
  @max_steps 50
  # The maximum timeout of a `receive`.
  @max_timeout 4_294_967_295

  @doc """
  Prints a report. Returns `:error` if a check failed (`✗`), or else `:ok`.

  Without options, it checks all instances running in this VM, and the apps with a configuration of
  Pow. With only `:name`, it checks that instance. With other options, it checks the server that they describe; these are the options of
  `{PowRedisCache, options}`:

      PowRedisCache.Doctor.run(url: "rediss://localhost:6379", cacertfile: "ca.pem")

  Without options and without a running instance, it checks the server of the environment variable
  `REDIS_URL`.
  """
  @spec run(keyword()) :: :ok | :error
  def run(options \\ []) do
    reports = instances(options) ++ apps(options)

    for {title, checks} <- reports do
      title |> Report.format(checks, Report.colours?()) |> IO.puts()
    end

    checks = Enum.flat_map(reports, &elem(&1, 1))
    if Enum.any?(checks, &(&1.status == :error)), do: :error, else: :ok
  end

  @doc """
  Returns the checks of a report, in order. Takes the options of `run/1`, but checks one target:
  without options, the instance `PowRedisCache`.
  """
  @spec check(keyword()) :: [Check.t()]
  def check(options \\ []) do
    with :ok <- library(), {:ok, options} <- options(options) do
      Checks.all(options, diagnose(options))
    else
      {failed, detail, advice} -> Checks.failed_at(failed, detail, advice)
    end
  end

  defp instances(options) do
    for {title, options} <- targets(options), do: {title, check(options)}
  end

  defp apps([]),
    do: for(app <- PowApp.names(), do: {"Pow in #{inspect(app)}", PowApp.checks(app)})

  defp apps(_options), do: []

  # The titles of the reports, each with the options of check/1.
  defp targets([]) do
    case {Enum.sort(Instance.names()), System.get_env("REDIS_URL")} do
      {[], url} when url in [nil, ""] ->
        [{"No instance is running.", []}]

      {[], url} ->
        [{"No instance is running: server of REDIS_URL", [url: url]}]

      {names, _url} ->
        for name <- names, do: {inspect(name), [name: name]}
    end
  end

  defp targets(options) do
    case instance_name(options) do
      nil -> [{"Server of the options", options}]
      name -> [{inspect(name), options}]
    end
  end

  # The name of the instance to check, or nil if the options describe a server.
  defp instance_name([]), do: PowRedisCache
  defp instance_name(name: name), do: name
  defp instance_name(_options), do: nil

  defp library do
    if error = Native.load_error() do
      {"library", error,
       "Run `mix deps.compile pow_redis_cache --force` for the operating system and processor of this " <>
         "host."}
    else
      :ok
    end
  end

  defp options(options) do
    case instance_name(options) do
      nil -> {:ok, Options.validate!(options)}
      name -> instance_options(name)
    end
  rescue
    error in ArgumentError ->
      {"configuration", Exception.message(error),
       "Correct the option. The docs of PowRedisCache list all options."}
  end

  defp instance_options(name) do
    {:ok, Server.options(name).()}
  catch
    :exit, _reason ->
      {"configuration", "#{inspect(name)} is not running in this VM",
       "Add {#{inspect(name)}, url: \"redis://…\"} to the children of your application's supervisor. To " <>
         "check a server without an instance, run `mix pow_redis_cache.doctor --url redis://…`, or " <>
         "PowRedisCache.Doctor.run(url: \"redis://…\")."}
  end

  # Runs in a new process, so that a late reply does not reach the caller's mailbox.
  defp diagnose(options) do
    task =
      Task.async(fn ->
        reference = make_ref()
        near_key = if options.near_cache, do: Commands.unused_key()
        probes = Commands.probes(Options.topology(options), near_key != nil)

        with :ok <-
               Native.doctor(
                 Options.to_native(options),
                 probes,
                 near_key,
                 KeyspaceStats.timeout(),
                 reference
               ) do
          timeout =
            min(options.connect_timeout * @max_steps + 2 * KeyspaceStats.timeout(), @max_timeout)

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
