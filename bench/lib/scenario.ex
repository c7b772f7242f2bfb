defmodule PowRedisCache.Bench.Scenario do
  @moduledoc """
  A scenario: the call, the number of callers, and the records.

    * `:call` - one call of one caller, which checks its result;
    * `:prepare` - runs before the calls of a caller and is not measured;
    * `:writes` - whether the scenario writes; it then has a separate database, emptied before each run;
    * `:command` - the command that `redis-benchmark` sends instead;
    * `:with` - clients that only some scenarios have;
    * `:without` - clients to exclude, and `:without_far` those to exclude with 1 ms of round trip.
  """

  alias PowRedisCache.Bench.{Client, Dataset, Visit}

  @enforce_keys [:name, :callers, :call]
  defstruct [
    :name,
    :callers,
    :call,
    :prepare,
    :command,
    users: 14_286,
    sessions: 3,
    times: nil,
    writes: false,
    with: [],
    without: [],
    without_far: []
  ]

  @v1 ["Pow backend v1 on Redix", "Pow backend v1 on eredis"]
  @big String.duplicate("x", 10_000)

  @doc "All scenarios."
  def all do
    gets() ++ writes() ++ sealed() ++ sessions() ++ [all_users()] ++ big() ++ [at_once()]
  end

  defp gets do
    for callers <- [1, 8, 64, 512] do
      %__MODULE__{
        name: "get",
        callers: callers,
        call: &get/4,
        command: {:get, Dataset.session(1, 1)},
        # v1 and v2 get in the same way.
        without: @v1
      }
    end
  end

  defp get(scenario, client, caller, number) do
    user = rem(caller * 7919 + number * 104_729, scenario.users) + 1
    session = Dataset.session(user, 1 + rem(number, scenario.sessions))
    {[_struct, :user, ^user], [fingerprint: _]} = client.get.(session)
  end

  defp writes do
    scenario = %__MODULE__{name: nil, callers: 64, call: nil, writes: true, users: 0}

    [
      %{scenario | name: "sign-in", call: &sign_in/4},
      %{scenario | name: "sign-out", call: &sign_out/4, prepare: &sign_in_often/3, times: 50},
      %{
        scenario
        | name: "put one key",
          call: &put_one/4,
          command: {:set, Dataset.session(1, 1)}
      },
      %{scenario | name: "delete one key", call: &delete_one/4, prepare: &put_often/3, times: 100}
    ]
  end

  defp sign_in(_scenario, client, caller, number), do: Visit.sign_in(client, caller, number)

  defp sign_in_often(scenario, client, caller) do
    for number <- 1..scenario.times, do: sign_in(scenario, client, caller, number)
  end

  defp sign_out(_scenario, client, caller, number), do: Visit.sign_out(client, caller, number)

  defp put_one(_scenario, client, caller, number) do
    :ok = client.put.([{Dataset.session(caller, number), {Dataset.user_key(caller), []}}])
  end

  defp put_often(scenario, client, caller) do
    for number <- 1..scenario.times, do: put_one(scenario, client, caller, number)
  end

  defp delete_one(_scenario, client, caller, number) do
    :ok = client.delete.(Dataset.session(caller, number))
  end

  # Beside the same without `:seal`, on values that the client has written.
  defp sealed do
    scenario = %__MODULE__{
      name: nil,
      callers: 64,
      call: nil,
      writes: true,
      users: 0,
      with: [Client.sealed()],
      without: Client.others()
    }

    [
      %{scenario | name: "get, sealed", call: &get_own/4, prepare: &put_own/3},
      %{scenario | name: "put, sealed", call: &put_one/4},
      %{scenario | name: "get of 10 kB, sealed", call: &get_big/4, prepare: &put_big/3},
      %{scenario | name: "put of 10 kB, sealed", call: &put_big/4}
    ]
  end

  @own 100

  defp put_own(scenario, client, caller) do
    for number <- 1..@own, do: put_one(scenario, client, caller, number)
  end

  defp get_own(_scenario, client, caller, number) do
    user = Dataset.user_key(caller)
    {^user, []} = client.get.(Dataset.session(caller, 1 + rem(number, @own)))
  end

  defp put_big(scenario, client, caller), do: put_big(scenario, client, caller, 1)

  defp put_big(_scenario, client, caller, _number),
    do: :ok = client.put.([{"big#{caller}", @big}])

  defp get_big(_scenario, client, caller, _number), do: @big = client.get.("big#{caller}")

  defp sessions do
    for keys <- [1_000, 100_000, 1_000_000] do
      %__MODULE__{
        name: "sessions of a user, #{keys} keys",
        callers: 64,
        users: Dataset.users(keys),
        call: &sessions_of/4,
        # v1 scans all keys of the database, ten per round trip.
        without: if(keys > 1_000, do: @v1, else: [])
      }
    end
  end

  defp sessions_of(scenario, client, caller, number) do
    user = rem(caller * 7919 + number * 104_729, scenario.users) + 1
    records = client.all.(Dataset.user_key(user) ++ [:session, :_])
    true = Dataset.sessions?(records, user)
  end

  defp all_users do
    %__MODULE__{
      name: "all users, 100000",
      callers: 1,
      users: 100_000,
      sessions: 1,
      times: 1,
      # v1 needs a round trip for every ten keys of the database: nearly two minutes.
      without_far: @v1,
      # The default index has no set of all users.
      with: [Client.every_prefix()],
      call: fn scenario, client, _caller, _number ->
        records = client.all.(Dataset.user_key(:_))
        true = length(records) == scenario.users
      end
    }
  end

  defp big do
    scenario = %__MODULE__{
      name: nil,
      callers: 64,
      call: nil,
      writes: true,
      users: 0,
      without: @v1
    }

    [
      %{
        scenario
        | name: "get of 10 kB",
          prepare: &put_big/3,
          call: &get_big/4
      },
      %{
        scenario
        | name: "put of 10 kB",
          call: &put_big/4
      }
    ]
  end

  defp at_once do
    %__MODULE__{
      name: "get, all at once",
      callers: 10_000,
      times: 1,
      call: &get/4,
      without: @v1
    }
  end
end
