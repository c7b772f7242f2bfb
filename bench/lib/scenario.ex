defmodule PowRedisCache.Bench.Scenario do
  @moduledoc """
  What is called, by how many callers, among which records.

  `:call` is one call of one caller, with its answer checked; `:prepare` is done before, unmeasured.
  Rows with `writes: true` have a database of their own, empty at each measure. `:command` is what
  `redis-benchmark` is to send instead. Contenders may be left out: `:without`, and with a millisecond
  of round trip `:without_far`.
  """

  alias PowRedisCache.Bench.Dataset

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
    without: [],
    without_far: []
  ]

  @first ["guide (first) on Redix", "guide (first) on eredis"]
  @big String.duplicate("x", 10_000)

  @doc "All rows."
  def all do
    gets() ++ writes() ++ sessions() ++ [all_users()] ++ big() ++ [at_once()]
  end

  defp gets do
    for callers <- [1, 8, 64, 512] do
      %__MODULE__{
        name: "get",
        callers: callers,
        call: &get/4,
        command: {:get, Dataset.session(1, 1)},
        # The first edition's is the same.
        without: @first
      }
    end
  end

  defp get(row, contender, caller, number) do
    user = rem(caller * 7919 + number * 104_729, row.users) + 1
    session = Dataset.session(user, 1 + rem(number, row.sessions))
    {[_struct, :user, ^user], [fingerprint: _]} = contender.get.(session)
  end

  defp writes do
    row = %__MODULE__{name: nil, callers: 64, call: nil, writes: true, users: 0}

    [
      %{row | name: "sign-in", call: &sign_in/4},
      %{row | name: "sign-out", call: &sign_out/4, prepare: &sign_in_often/3, times: 50},
      %{
        row
        | name: "put one key",
          call: &put_one/4,
          command: {:set, Dataset.session(1, 1)}
      },
      %{row | name: "delete one key", call: &delete_one/4, prepare: &put_often/3, times: 100}
    ]
  end

  # Each time another user's.
  defp sign_in(_row, contender, caller, number) do
    user = signed_in(caller, number)
    :ok = contender.put.(Dataset.sign_in(user, Dataset.session(user, number)))
  end

  defp signed_in(caller, number), do: caller * 1_000_000 + number

  defp sign_in_often(row, contender, caller) do
    for number <- 1..row.times, do: sign_in(row, contender, caller, number)
  end

  defp sign_out(_row, contender, caller, number) do
    user = signed_in(caller, number)
    session = Dataset.session(user, number)
    {[_struct, :user, ^user], _metadata} = contender.get.(session)
    :ok = contender.delete.(session)
    :ok = contender.delete.(Dataset.session_key(user, session))
  end

  defp put_one(_row, contender, caller, number) do
    :ok = contender.put.([{Dataset.session(caller, number), {Dataset.user_key(caller), []}}])
  end

  defp put_often(row, contender, caller) do
    for number <- 1..row.times, do: put_one(row, contender, caller, number)
  end

  defp delete_one(_row, contender, caller, number) do
    :ok = contender.delete.(Dataset.session(caller, number))
  end

  defp sessions do
    for keys <- [1_000, 100_000, 1_000_000] do
      %__MODULE__{
        name: "sessions of a user, #{keys} keys",
        callers: 64,
        users: Dataset.users(keys),
        call: &sessions_of/4,
        # It looks at each key of the database, with a round trip for each ten.
        without: if(keys > 1_000, do: @first, else: [])
      }
    end
  end

  defp sessions_of(row, contender, caller, number) do
    user = rem(caller * 7919 + number * 104_729, row.users) + 1
    records = contender.all.(Dataset.user_key(user) ++ [:session, :_])
    true = Dataset.sessions?(records, user)
  end

  defp all_users do
    %__MODULE__{
      name: "all users, 100000",
      callers: 1,
      users: 100_000,
      sessions: 1,
      times: 1,
      # A round trip for each ten keys of the database: nearly two minutes.
      without_far: @first,
      call: fn row, contender, _caller, _number ->
        records = contender.all.(Dataset.user_key(:_))
        true = length(records) == row.users
      end
    }
  end

  defp big do
    row = %__MODULE__{name: nil, callers: 64, call: nil, writes: true, users: 0, without: @first}

    [
      %{
        row
        | name: "get of 10 kB",
          prepare: fn _row, contender, caller -> contender.put.([{"big#{caller}", @big}]) end,
          call: fn _row, contender, caller, _number -> @big = contender.get.("big#{caller}") end
      },
      %{
        row
        | name: "put of 10 kB",
          call: fn _row, contender, caller, _number ->
            :ok = contender.put.([{"big#{caller}", @big}])
          end
      }
    ]
  end

  defp at_once do
    %__MODULE__{
      name: "get, all at once",
      callers: 10_000,
      times: 1,
      call: &get/4,
      without: @first
    }
  end
end
