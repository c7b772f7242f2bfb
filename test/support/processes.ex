defmodule PowRedisCache.Processes do
  @moduledoc """
  Operating system processes. A test signals them by their id, so that it never hits another process.
  Each ends with the Erlang process that started it, even if that is killed.
  """

  alias PowRedisCache.Wait

  defstruct [:pid, :started, :shell]

  @type t :: %__MODULE__{pid: pos_integer(), started: String.t(), shell: port()}

  # The shell kills the process when its standard input closes, at the latest when the VM ends. The start
  # time distinguishes the process from a later one with the same id.
  @script ~S"""
  started() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null; }
  output=$1
  shift
  "$@" >"$output" 2>&1 </dev/null &
  pid=$!
  started=$(started $pid)
  echo "$pid $started"
  cat >/dev/null
  if [ "$(started $pid)" = "$started" ]; then kill -9 $pid; wait $pid; fi 2>/dev/null
  """

  @doc "Starts a program and redirects its output to a file."
  @spec start!(String.t(), [String.t()], Path.t()) :: t()
  def start!(program, arguments, output) do
    executable = System.find_executable(program) || raise "#{program} is not installed"

    shell =
      Port.open({:spawn_executable, System.find_executable("sh")}, [
        :binary,
        line: 100,
        args: ["-c", @script, "sh", output, executable | arguments]
      ])

    receive do
      {^shell, {:data, {:eol, line}}} ->
        [pid, started] = String.split(line)
        %__MODULE__{pid: String.to_integer(pid), started: started, shell: shell}
    after
      60_000 -> raise "#{program} did not start"
    end
  end

  @doc "Terminates the process (SIGTERM) and waits until it has ended."
  def terminate(process), do: signal_and_wait(process, "TERM")

  @doc "Kills the process (SIGKILL) and waits until it is dead."
  def kill(process), do: signal_and_wait(process, "KILL")

  @doc "Suspends the process (SIGSTOP) and waits until it is suspended."
  def pause(process) do
    signal(process, "STOP")
    Wait.until(fn -> state(process) == "T" end)
    :ok
  end

  @doc "Resumes a suspended process (SIGCONT)."
  def resume(process), do: signal(process, "CONT")

  @doc "Kills the process and closes its shell. Any process may call it, and more than once."
  def stop(process) do
    try do
      Port.close(process.shell)
    rescue
      # The port is already closed.
      ArgumentError -> true
    end

    Wait.until(fn -> not alive?(process) end)
    :ok
  end

  @doc "Whether any thread of the process is alive. Until the last one ends, it holds its port."
  def alive?(process) do
    case state(process) do
      nil -> false
      dead when dead in ["Z", "X"] -> match?({:ok, [_, _ | _]}, threads(process))
      _ -> true
    end
  end

  defp signal_and_wait(process, signal) do
    signal(process, signal)
    Wait.until(fn -> not alive?(process) end)
    :ok
  end

  defp signal(process, signal) do
    if alive?(process), do: System.cmd("sh", ["-c", "kill -#{signal} #{process.pid}"])
    :ok
  end

  defp threads(process), do: File.ls("/proc/#{process.pid}/task")

  # The state is the third field and the start time the twenty-second. Fields are counted from the end of
  # the program's name, which may contain spaces.
  defp state(%{pid: pid, started: started}) do
    with {:ok, stat} <- File.read("/proc/#{pid}/stat"),
         fields = stat |> String.split(") ") |> List.last() |> String.split(),
         ^started <- Enum.at(fields, 19) do
      hd(fields)
    else
      _ -> nil
    end
  end
end
