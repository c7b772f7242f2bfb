defmodule PowRedisCache.FailureSummary do
  @moduledoc """
  A formatter that repeats the failed tests at the end, since logs of CI are often cut at the front.
  """

  use GenServer

  @doc "Prints the failures. Call it after the suite, when the other formatters have finished."
  def print do
    failed = :persistent_term.get(__MODULE__, [])
    if failed != [], do: IO.puts(["\nFailed tests:\n" | failed])
  end

  @impl true
  def init(_options), do: {:ok, []}

  @impl true
  def handle_cast({:test_finished, %ExUnit.Test{state: {:failed, failures}} = test}, failed) do
    text = ExUnit.Formatter.format_test_failure(test, failures, length(failed) + 1, 98, &plain/2)
    {:noreply, [text | failed]}
  end

  # A `setup_all` that failed.
  def handle_cast(
        {:module_finished, %ExUnit.TestModule{state: {:failed, failures}} = module},
        failed
      ) do
    number = length(failed) + 1
    text = ExUnit.Formatter.format_test_all_failure(module, failures, number, 98, &plain/2)
    {:noreply, [text | failed]}
  end

  def handle_cast({:suite_finished, _times}, failed) do
    :persistent_term.put(__MODULE__, Enum.reverse(failed))
    {:noreply, failed}
  end

  def handle_cast(_event, failed), do: {:noreply, failed}

  defp plain(_key, text), do: text
end
