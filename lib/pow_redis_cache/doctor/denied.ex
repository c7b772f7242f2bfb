defmodule PowRedisCache.Doctor.Denied do
  @moduledoc false
  # The commands and keys that the server refuses to the Redis user, and what permits them.

  alias PowRedisCache.{Commands, Options}
  alias PowRedisCache.Doctor.Failure

  @doc "Returns the result of the check, given the refused commands and keys."
  def check(%{writes: reason}, _user, options) when reason != nil do
    {cause, advice} = Failure.explain(reason, Options.topology(options))
    {:error, cause, advice}
  end

  def check(%{commands: [], keys: [], missing: []}, user, _options) do
    {:ok, "#{user} may run all required commands"}
  end

  def check(refused, user, options) do
    status = if required?(refused), do: :error, else: :warning
    {status, detail(refused, user), Enum.join(advice(refused, user, options, status), " ")}
  end

  defp required?(refused) do
    refused.keys != [] or (refused.commands ++ refused.missing) -- Commands.optional() != []
  end

  defp detail(refused, user) do
    denied = denied(refused.commands) ++ if(refused.keys == [], do: [], else: ["access the keys"])
    denied = if denied == [], do: [], else: ["#{user} may not #{Enum.join(denied, ", or ")}"]

    missing =
      if refused.missing == [],
        do: [],
        else: ["the server refuses #{Enum.join(refused.missing, ", ")}"]

    Enum.join(denied ++ missing, "; ")
  end

  defp denied([]), do: []
  defp denied(names), do: ["run #{Enum.join(names, ", ")}"]

  defp advice(refused, user, options, status) do
    weaker(refused, status) ++ permit(refused, user, options) ++ rename(refused.missing)
  end

  defp weaker(_refused, :error), do: []

  defp weaker(refused, :warning) do
    refused = refused.commands ++ refused.missing

    for {names, consequence} <- [
          {["TIME"], "Without TIME, the clock of this host is used."},
          {["ECHO"], "Without ECHO, a reply too many or too few may go unnoticed."},
          {["INFO", "CLIENT|INFO", "CLIENT|KILL"],
           "Without INFO, CLIENT|INFO and CLIENT|KILL, a write of a lost connection may be " <>
             "executed late: a deleted session may come back."},
          {["CLIENT|TRACKING"], "Without CLIENT|TRACKING, the near cache is off."},
          {["CLUSTER|INFO"], "Without CLUSTER|INFO, the near cache is off."}
        ],
        Enum.any?(names, &(&1 in refused)),
        do: consequence
  end

  defp permit(%{commands: [], keys: []}, _user, _options), do: []

  defp permit(denied, user, options) do
    commands = Commands.acl_rules(Options.topology(options), options.near_cache != false)
    rules = ["ACL SETUSER", user] ++ patterns(denied) ++ commands
    ["Run on the server: `#{Enum.join(rules, " ")}`"]
  end

  defp rename([]), do: []

  defp rename(_missing) do
    [
      "Remove these commands from `rename-command` in the server's configuration. If a proxy refuses " <>
        "them, connect without it."
    ]
  end

  # Redis rejects key patterns for a user with access to all keys. If every command with a key was denied
  # by name, access to keys is unknown, and the line permits all of them.
  defp patterns(%{keys: [_ | _]}), do: Commands.key_rules()

  defp patterns(%{commands: denied}) do
    if Commands.with_keys() -- denied == [], do: ["~*"], else: []
  end
end
