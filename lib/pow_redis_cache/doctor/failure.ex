defmodule PowRedisCache.Doctor.Failure do
  @moduledoc false
  # Turns an error of the native library into the result of a check.

  alias PowRedisCache.{Error, Options}

  @doc "The result of a check whose optional command failed, often for lack of a permission."
  def unknown({:server, %{code: "NOPERM"}}, %{connect: connect}) do
    {:warning, "unknown: the user may not run the command",
     "To enable this check, run on the server: `ACL SETUSER #{connect.user} +info +ping +time`"}
  end

  def unknown({:server, %{code: "ERR"}}, _report) do
    {:warning, "unknown: the server refuses the command",
     "To enable this check, remove INFO, PING and TIME from `rename-command` in the server's " <>
       "configuration."}
  end

  # Then Redis refuses PING, too.
  def unknown({:server, %{code: "MISCONF"}}, _report) do
    {:warning, "unknown: Redis refuses the command", "Solve the problem of persistence first."}
  end

  def unknown(reason, report), do: failure("unknown", reason, report)

  @doc "The result of a failed check."
  def failure(what, reason, %{options: options}) do
    {cause, advice} = explain(reason, Options.topology(options))
    {:error, "#{what}: #{cause}", advice}
  end

  @doc "Returns cause and advice: the first sentence of the error message, and the rest."
  def explain({:start_failed, _details}, _topology) do
    {"the operating system could not start a thread", "Raise the thread limit of this host."}
  end

  def explain(reason, topology) do
    message = Exception.message(Error.from_native(:doctor, reason, topology))

    case message
         |> String.replace_prefix("doctor failed: ", "")
         |> String.split(~r/\. |(?<=\?) /, parts: 2) do
      [cause, advice] -> {cause, advice}
      [cause] -> {cause, "Check the log of the server."}
    end
  end
end
