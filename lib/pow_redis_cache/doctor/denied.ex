defmodule PowRedisCache.Doctor.Denied do
  @moduledoc false
  # The commands and keys that are denied to the Redis user, and the ACL line that permits them.

  alias PowRedisCache.Commands

  @doc "Returns the result of the check, given the commands denied by name and those denied by key."
  def check(%{commands: [], keys: []}, user, _topology) do
    {:ok, "#{user} may run all required commands"}
  end

  def check(denied, user, topology) do
    {:error, "#{user} may not #{Enum.join(commands(denied) ++ keys(denied), ", or ")}",
     "Run on the server: `#{line(denied, user, topology)}`"}
  end

  defp commands(%{commands: []}), do: []
  defp commands(%{commands: names}), do: ["run #{Enum.join(names, ", ")}"]

  defp keys(%{keys: []}), do: []
  defp keys(%{keys: _names}), do: ["access the keys"]

  defp line(denied, user, topology) do
    Enum.join(
      ["ACL SETUSER", user] ++ patterns(denied) ++ Commands.acl_rules(topology),
      " "
    )
  end

  # Every key starts with the version byte of the external term format, which is "g" in Base64. Redis
  # rejects key patterns for a user with access to all keys. If every command with a key was denied
  # by name, access to keys is unknown, and the line permits all of them.
  defp patterns(%{keys: [_ | _]}), do: ["~g*", "~_index:*"]

  defp patterns(%{commands: denied}) do
    if Commands.with_keys() -- denied == [], do: ["~*"], else: []
  end
end
