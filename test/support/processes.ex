defmodule PowRedisCache.Processes do
  @moduledoc """
  Processes of the operating system, each with its id, so that a test can kill or freeze exactly the
  one that it means. Each ends with the Erlang process that started it, however that ends.
  """

  alias PowRedisCache.Wait

  defstruct [:pid, :born, :shell]

  @type t :: %__MODULE__{pid: pos_integer(), born: String.t(), shell: port()}

  # The shell holds the process until its standard input closes, which it does when the VM ends. The
  # time of birth tells it from another process that was given its id later.
  @script ~S"""
  born() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null; }
  output=$1
  shift
  "$@" >"$output" 2>&1 </dev/null &
  pid=$!
  born=$(born $pid)
  echo "$pid $born"
  cat >/dev/null
  if [ "$(born $pid)" = "$born" ]; then kill -9 $pid; wait $pid; fi 2>/dev/null
  """

  @doc "Starts a program; what it writes goes to a file."
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
        [pid, born] = String.split(line)
        %__MODULE__{pid: String.to_integer(pid), born: born, shell: shell}
    after
      60_000 -> raise "#{program} did not start"
    end
  end

  @doc "Ends the process (SIGTERM), and waits until it has."
  def terminate(process), do: signal_and_wait(process, "TERM")

  @doc "Kills the process (SIGKILL), and waits until it is dead."
  def kill(process), do: signal_and_wait(process, "KILL")

  @doc "Freezes the process (SIGSTOP), and waits until it stands still."
  def pause(process) do
    signal(process, "STOP")
    Wait.until(fn -> state(process) == "T" end)
    :ok
  end

  @doc "Lets a frozen process go on (SIGCONT)."
  def resume(process), do: signal(process, "CONT")

  @doc "Kills the process and forgets it; may be called from any process, and again."
  def stop(process) do
    try do
      Port.close(process.shell)
    rescue
      # It is closed already.
      ArgumentError -> true
    end

    Wait.until(fn -> not alive?(process) end)
    :ok
  end

  @doc "Whether any thread of the process lives: until then it holds its port."
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

  # The letter of the process's state: the third field, and the time of birth the twenty-second.
  # Those behind the name in brackets are counted, since that may hold anything.
  defp state(%{pid: pid, born: born}) do
    with {:ok, stat} <- File.read("/proc/#{pid}/stat"),
         fields = stat |> String.split(") ") |> List.last() |> String.split(),
         ^born <- Enum.at(fields, 19) do
      hd(fields)
    else
      _ -> nil
    end
  end
end
