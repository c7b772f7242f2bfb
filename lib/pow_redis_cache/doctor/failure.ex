defmodule PowRedisCache.Doctor.Failure do
  @moduledoc false
  # What the native library says of what failed, in words.

  alias PowRedisCache.Error

  @doc "The check of what a user may lack the permission to ask, and is not needed."
  def not_told({:server, %{code: "NOPERM"}}, %{connect: connect}) do
    {:warning, "not known: the user may not ask",
     "To see this, let it: `ACL SETUSER #{connect.user} +info +ping +time`"}
  end

  def not_told(reason, _subject), do: failed("not known", reason)

  @doc "The check of what does not work."
  def failed(what, reason) do
    {means, advice} = explain(reason)
    {:error, "#{what}: #{means}", advice}
  end

  @doc "What it means, and what to do: an error's message says that behind the first full stop."
  def explain({:start_failed, _details}) do
    {"the system gave no thread", "Raise the limits of this host."}
  end

  def explain(reason) do
    message = Exception.message(Error.from_native(:doctor, reason))

    case message
         |> String.replace_prefix("doctor failed: ", "")
         |> String.split(". ", parts: 2) do
      [means, advice] -> {means, advice}
      [means] -> {means, "See what the server's log says of it."}
    end
  end
end
