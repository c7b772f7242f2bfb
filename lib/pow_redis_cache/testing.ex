defmodule PowRedisCache.Testing do
  @moduledoc """
  A cache store backend for the tests of an app, in which each test has the records that it wrote and no
  others. Tests may run at the same time. It stores records in Redis, through the instance `PowRedisCache`.

      # config/test.exs
      config :my_app, :pow, cache_store_backend: PowRedisCache.Testing

      # test/support/conn_case.ex
      setup tags do
        PowRedisCache.Testing.isolate(tags)
        # ...
      end

  When a test ends, its records are deleted. The records of a VM that was killed expire.

  A process belongs to the test that started it: as a task, under a supervisor of the test, or as a
  LiveView of `Phoenix.LiveViewTest`. Other processes, such as those that serve requests over HTTP, belong
  to the test in tests with `async: false`. With `async: true`, `allow/2` assigns them to a test.

  Tests that are not about sessions in Redis are faster with Pow's own
  `cache_store_backend: Pow.Store.Backend.EtsCache`, and need no Redis.
  """

  alias PowRedisCache.{Config, Error}
  alias PowRedisCache.Testing.Records

  # Called only in tests.
  @compile {:no_warn_undefined, ExUnit.Callbacks}

  if match?({:module, _}, Code.ensure_compiled(Pow.Store.Backend.Base)) do
    @behaviour Pow.Store.Backend.Base
  end

  @doc """
  Gives the calling test records of its own. To be called in `setup`, with the context of the test.

  Unless the context has `async: true`, processes that belong to no test share them.
  """
  @spec isolate(map()) :: :ok
  def isolate(context) do
    test = Records.begin(self(), not Map.get(context, :async, false))
    ExUnit.Callbacks.on_exit({__MODULE__, test}, fn -> delete_all(test) end)
  end

  @doc """
  Lets a process use the records of a test.

  `owner` is the process of the test, or one that belongs to it.
  """
  @spec allow(pid(), pid()) :: :ok
  def allow(owner \\ self(), process) when is_pid(owner) and is_pid(process) do
    Records.allow(process, test_of!(owner))
  end

  @doc false
  def put(config, record_or_records) do
    {test, config} = isolated(config)
    for {key, _value} <- List.wrap(record_or_records), do: Records.wrote(test, config, key)
    PowRedisCache.put(config, record_or_records)
  end

  @doc false
  def put_new(config, {key, _value} = record) do
    {test, config} = isolated(config)
    Records.wrote(test, config, key)
    PowRedisCache.put_new(config, record)
  end

  @doc false
  def delete(config, key), do: config |> isolated() |> elem(1) |> PowRedisCache.delete(key)

  @doc false
  def get(config, key), do: config |> isolated() |> elem(1) |> PowRedisCache.get(key)

  @doc false
  def all(config, match), do: config |> isolated() |> elem(1) |> PowRedisCache.all(match)

  # The test that calls, and the configuration with a namespace of that test.
  defp isolated(config) do
    test = test_of!(self())
    {test, Keyword.put(config, :namespace, {test, Config.get(config, :namespace, "cache")})}
  end

  defp test_of!(process) do
    Records.test_of(process) ||
      raise "#{inspect(process)} belongs to no test. Call `#{inspect(__MODULE__)}.isolate(context)` in " <>
              "the setup of the test, or `#{inspect(__MODULE__)}.allow(test, pid)`"
  end

  defp delete_all(test) do
    for {config, key} <- Records.finish(test), do: PowRedisCache.delete(config, key)
    :ok
  rescue
    # A test may have stopped Redis or the instance.
    Error -> :ok
  end
end
