defmodule PowRedisCache.Testing.Records do
  @moduledoc false
  # The tests that run, the processes that belong to them, and the keys that they wrote.

  use GenServer

  # Rows: {{:process, pid}, test}, {:shared, test}, {{:key, test, config, key}}.

  @doc "Begins the test of a process, and returns its id."
  def begin(process, shared?) do
    start()
    # Unique among the VMs that use the same Redis.
    test = Base.url_encode64(:crypto.strong_rand_bytes(12))
    :ets.insert(__MODULE__, {{:process, process}, test})
    if shared?, do: :ets.insert(__MODULE__, {:shared, test})
    test
  end

  @doc "Ends a test. Returns the keys that it wrote, each with the configuration of its call."
  def finish(test) do
    records = :ets.select(__MODULE__, [{{{:key, test, :"$1", :"$2"}}, [], [{{:"$1", :"$2"}}]}])
    :ets.match_delete(__MODULE__, {{:key, test, :_, :_}})
    :ets.match_delete(__MODULE__, {:_, test})
    records
  end

  def allow(process, test) do
    :ets.insert(__MODULE__, {{:process, process}, test})
    :ok
  end

  def wrote(test, config, key) do
    :ets.insert(__MODULE__, {{:key, test, Keyword.take(config, [:name, :namespace]), key}})
  end

  @doc "Returns the test that a process belongs to, or `nil`."
  def test_of(process) do
    if :ets.whereis(__MODULE__) != :undefined do
      Enum.find_value([process | origins(process)], &lookup({:process, &1})) || lookup(:shared)
    end
  end

  defp lookup(key) do
    case :ets.lookup(__MODULE__, key) do
      [{^key, test}] -> test
      [] -> nil
    end
  end

  # The processes that it works for, and those that started it. Names are those of supervisors of an app.
  defp origins(process) do
    case Process.info(process, :dictionary) do
      {:dictionary, dictionary} ->
        for key <- [:"$callers", :"$ancestors"],
            pid when is_pid(pid) <- Keyword.get(dictionary, key, []),
            do: pid

      nil ->
        []
    end
  end

  # The table outlives the tests.
  defp start do
    case GenServer.start(__MODULE__, nil, name: __MODULE__) do
      {:ok, _pid} -> :ok
      {:error, {:already_started, pid}} -> GenServer.call(pid, :await_table)
    end
  end

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table, :public, read_concurrency: true])
    {:ok, nil}
  end

  @impl true
  def handle_call(:await_table, _from, nil), do: {:reply, :ok, nil}
end
