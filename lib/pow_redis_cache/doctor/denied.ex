defmodule PowRedisCache.Doctor.Denied do
  @moduledoc false
  # What a Redis user may not do, and the line that lets it.

  alias PowRedisCache.Commands

  @doc "The check, given the commands that were refused, for themselves or for their keys."
  def check(%{commands: [], keys: []}, user, _topology) do
    {:ok, "#{user} may run all commands that are used"}
  end

  def check(denied, user, topology) do
    {:error, "#{user} may not #{Enum.join(commands(denied) ++ keys(denied), ", nor ")}",
     "Run on the server: `#{line(denied, user, topology)}`"}
  end

  defp commands(%{commands: []}), do: []
  defp commands(%{commands: names}), do: ["run #{Enum.join(names, ", ")}"]

  defp keys(%{keys: []}), do: []
  defp keys(%{keys: _names}), do: ["use the keys"]

  defp line(denied, user, topology) do
    Enum.join(
      ["ACL SETUSER", user] ++ patterns(denied) ++ Commands.rules(topology),
      " "
    )
  end

  # Each key starts with the version byte of an external term, which is g in base64. Redis refuses these
  # patterns for a user who may use all keys; where no command came so far as to tell, all keys it is.
  defp patterns(%{keys: [_ | _]}), do: ["~g*", "~_index:*"]

  defp patterns(%{commands: refused}) do
    if Commands.of_keys() -- refused == [], do: ["~*"], else: []
  end
end
