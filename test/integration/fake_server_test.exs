defmodule PowRedisCache.FakeServerTest do
  # Misbehaving servers: each call ends in time, returns a result or raises an allowed error, and leaves
  # no message in the mailbox.
  use ExUnit.Case, async: false

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Error, FakeServer, SchedulerStalls, Wait}

  @timeout 300
  # A call may end this many milliseconds after its timeout, without stalls of the machine.
  @grace 500

  # The errors that a server can cause.
  @reasons [
             :timeout,
             :disconnected,
             :connection_lost,
             :protocol,
             :tls,
             :server,
             :out_of_memory,
             :unauthenticated
           ] ++
             [:not_permitted, :wrong_type, :read_only]

  describe "every call ends in time on" do
    for {title, reasons} <- [
          {"no reply", [:timeout]},
          {"half a reply", [:timeout]},
          {"a line without CRLF", [:timeout]},
          {"an array that lacks its last item", [:timeout]},
          {"a reply sent byte by byte, too slowly", [:timeout]},
          {"a bulk string of 512 MB that never arrives", [:timeout]},
          {"a bulk string beyond any limit", [:timeout, :protocol]},
          {"an array of a billion items", [:timeout, :protocol]},
          {"an array larger than memory", [:timeout, :protocol]},
          {"negative lengths", [:timeout, :protocol, {:ok, :not_found}]},
          {"deeply nested arrays", [:timeout, :protocol]},
          {"another protocol", [:timeout, :protocol]},
          {"binary garbage", [:timeout, :protocol]},
          {"a closed connection", [:timeout, :disconnected, :connection_lost]},
          {"a reset connection", [:timeout, :disconnected, :connection_lost]},
          {"half a reply and a closed connection", [:timeout, :disconnected, :connection_lost]},
          {"a server that never finishes loading", [:timeout, :server]}
        ] do
      test title do
        name = start(@timeout, FakeServer.start!(script(unquote(title))))

        for {operation, outcome, took} <- call_all(name) do
          assert {operation, outcome} in for(reason <- unquote(reasons), do: {operation, reason})
          assert took <= @timeout + @grace, "#{operation} took #{took} ms"
        end
      end
    end
  end

  test "an error reply fails every call with that error" do
    name = start(30_000, FakeServer.start!(script("an error reply")))

    for {operation, outcome, _took} <- call_all(name),
        do: assert({operation, outcome} == {operation, :server})
  end

  describe "the deadline holds" do
    test "for reads that get replies of another type" do
      name =
        start(@timeout, FakeServer.start!([{:send, String.duplicate("*1\r\n*1\r\n:1\r\n", 20)}]))

      for {operation, outcome, took} <- call_all(name), operation in [:get, :all] do
        assert {operation, outcome} in [{operation, :protocol}, {operation, :timeout}]
        assert took <= @timeout + @grace, "#{operation} took #{took} ms"
      end
    end

    test "while the login gets no reply, or a slow one" do
      for login <- [[:silence], [{:slowly, String.duplicate("+OK", 1_000), 20}]] do
        name = start(@timeout, FakeServer.start!(login, at: :login))

        for {operation, outcome, took} <- call_all(name) do
          assert {operation, outcome} in [{operation, :timeout}, {operation, :disconnected}]
          assert took <= @timeout + @grace, "#{operation} took #{took} ms"
        end
      end
    end

    test "while the connection is not accepted" do
      {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1}, backlog: 1)
      {:ok, port} = :inet.port(listener)
      name = start(@timeout, %{port: port})

      for {operation, outcome, took} <- call_all(name) do
        assert {operation, outcome} in [{operation, :timeout}, {operation, :disconnected}]
        assert took <= @timeout + @grace, "#{operation} took #{took} ms"
      end
    end

    test "for each of many callers that share a pipeline" do
      # The first reply of each pipeline comes, and no other.
      name = start(@timeout, FakeServer.start!([:default, :silence]))

      outcomes =
        1..50
        |> Enum.map(fn _ -> Task.async(fn -> name |> calls() |> hd() |> outcome() end) end)
        |> Task.await_many(60_000)

      for {:get, outcome, took} <- outcomes do
        assert outcome in [:timeout, :connection_lost]
        assert took <= @timeout + @grace
      end
    end
  end

  describe "recovers" do
    test "by waiting for a slow reply that arrives in time" do
      name = start(5_000, FakeServer.start!([{:slowly, "$-1\r\n", 10}, :next, :serve]))
      assert {:get, {:ok, :not_found}, _took} = name |> calls() |> hd() |> outcome()
    end

    test "by retrying the call after a lost connection" do
      for broken <- [[:close], [:reset], [{:send, "$5\r\nab"}, :close]] do
        server = FakeServer.start!(fn number -> if number == 1, do: broken, else: [:serve] end)
        name = start(10_000, server, pool_size: 1)
        assert {:get, {:ok, :not_found}, _took} = name |> calls() |> hd() |> outcome()
        assert FakeServer.connections(server) == 2
      end
    end

    # The call may be the reason: it is not sent a third time.
    test "by giving up a call that was under way in two lost connections" do
      broken = [[:close], [{:send, "$5\r\nab"}, :close]]
      server = FakeServer.start!(fn number -> Enum.at(broken, number - 1, [:serve]) end)
      name = start(10_000, server, pool_size: 1)
      assert {:get, :connection_lost, _took} = name |> calls() |> hd() |> outcome()
      assert {:get, {:ok, :not_found}, _took} = name |> calls() |> hd() |> outcome()
      assert FakeServer.connections(server) == 3
    end

    test "after garbage, in later calls" do
      server =
        FakeServer.start!(fn number ->
          if number == 1, do: [{:send, "garbage"}], else: [:serve]
        end)

      name = start(2_000, server, pool_size: 1)

      Wait.until(fn ->
        match?({:get, {:ok, :not_found}, _took}, name |> calls() |> hd() |> outcome())
      end)
    end

    # After an extra reply, each further reply would be returned to the wrong call.
    test "from an extra reply without returning it to another call" do
      theirs = :erlang.term_to_binary(:theirs)
      too_many = [{:send, "$-1\r\n$#{byte_size(theirs)}\r\n#{theirs}\r\n"}]
      server = FakeServer.start!(fn number -> if number == 1, do: too_many, else: [:serve] end)
      name = start(2_000, server, pool_size: 1)

      for _ <- 1..2 do
        assert {:get, {:ok, :not_found}, _took} = name |> calls() |> hd() |> outcome()
      end

      assert FakeServer.connections(server) == 2
    end
  end

  test "every call ends in time with an allowed result in 1,000 random scripts" do
    seed = ExUnit.configuration()[:seed]
    before = memory()

    outcomes =
      1..1_000
      |> Task.async_stream(
        fn number ->
          :rand.seed(:exsss, {seed, number, 7})
          scripts = List.to_tuple(for _ <- 1..8, do: random_script())

          server =
            FakeServer.start!(fn connection -> elem(scripts, rem(connection, 8)) end, at: at())

          name = unique_name()
          timeout = Enum.random([30, 60, 120])
          {:ok, owner} = PowRedisCache.start_link(options(name, server, timeout))
          outcomes = name |> call_all()
          GenServer.stop(owner)
          FakeServer.stop(server)
          {number, scripts, timeout, outcomes}
        end,
        max_concurrency: 8,
        timeout: 600_000
      )
      |> Enum.flat_map(fn {:ok, {number, scripts, timeout, outcomes}} ->
        for {operation, outcome, took} <- outcomes do
          script = "#{operation} in script #{number}: #{inspect(scripts, limit: 20)}"

          assert match?({:ok, _}, outcome) or outcome in @reasons,
                 "#{inspect(outcome)}, #{script}"

          assert took <= timeout + @grace, "#{took} ms, #{script}"
          {outcome, took - timeout}
        end
      end)

    # On a busy machine a few calls are late.
    assert Enum.count(outcomes, fn {_outcome, late} -> late > 100 end) <= length(outcomes) / 100

    counts =
      outcomes
      |> Enum.frequencies_by(fn {outcome, _late} ->
        if is_atom(outcome), do: outcome, else: :completed
      end)

    IO.puts("\nfake server, 1,000 random scripts: #{inspect(counts)}")
    # Threads that were connecting when their instance stopped may end later.
    Wait.until(fn -> memory() - before < 300 * 1_024 end)
    assert Map.keys(counts) -- [:completed] != []
    assert counts[:completed] > 0
  end

  # Calls the four operations in parallel, so that they share a pipeline.
  defp call_all(name) do
    name
    |> calls()
    |> Enum.map(fn call -> Task.async(fn -> outcome(call) end) end)
    |> Task.await_many(60_000)
  end

  defp calls(name) do
    config = [name: name, namespace: "fake_server", ttl: 60_000]

    [
      get: fn -> PowRedisCache.get(config, ["a", 1]) end,
      put: fn -> PowRedisCache.put(config, {["a", 1], :value}) end,
      delete: fn -> PowRedisCache.delete(config, ["a", 1]) end,
      all: fn -> PowRedisCache.all(config, ["a", :_]) end
    ]
  end

  defp outcome({operation, call}) do
    {outcome, took} =
      SchedulerStalls.time(fn ->
        try do
          {:ok, call.()}
        rescue
          error in Error -> error.reason
        end
      end)

    assert Process.info(self(), :messages) == {:messages, []}
    {operation, outcome, took}
  end

  defp start(timeout, server, more \\ []) do
    name = unique_name()

    start_supervised!({PowRedisCache, Keyword.merge(options(name, server, timeout), more)},
      id: name
    )

    name
  end

  defp options(name, server, timeout) do
    [name: name, url: "redis://127.0.0.1:#{server.port}", timeout: timeout, pool_size: 2]
  end

  defp script("no reply"), do: [:silence]
  defp script("half a reply"), do: [{:send, "$100\r\nhalf"}]
  defp script("a line without CRLF"), do: [{:send, "+O"}]
  defp script("an array that lacks its last item"), do: [{:send, "*3\r\n:1\r\n:2\r\n"}]

  defp script("a reply sent byte by byte, too slowly"),
    do: [{:slowly, "$1000\r\n" <> String.duplicate("x", 1_000), 10}]

  defp script("a bulk string of 512 MB that never arrives"), do: [{:send, "$536870912\r\nx"}]
  defp script("a bulk string beyond any limit"), do: [{:send, "$9223372036854775807\r\nx"}]
  defp script("an array of a billion items"), do: [{:send, "*1000000000\r\n:1\r\n"}]

  defp script("an array larger than memory"),
    do: [{:send, "*9223372036854775807\r\n:1\r\n"}]

  defp script("negative lengths"), do: [{:send, "$-7\r\n*-3\r\n"}]

  defp script("deeply nested arrays"),
    do: [{:send, String.duplicate("*1\r\n", 200_000)}]

  defp script("another protocol"), do: [{:send, "HTTP/1.1 400 Bad Request\r\n\r\n"}]
  defp script("binary garbage"), do: [{:send, <<0, 255, 1, 254, 13, 10>>}]
  defp script("a closed connection"), do: [:close]
  defp script("a reset connection"), do: [:reset]
  defp script("half a reply and a closed connection"), do: [{:send, "$100\r\nhalf"}, :close]
  defp script("an error reply"), do: [{:refuse, "ERR no"}]
  defp script("a server that never finishes loading"), do: [{:refuse, "LOADING Redis is loading"}]

  defp at, do: Enum.random([:command, :command, :command, :login])

  defp random_script do
    for(_ <- 1..:rand.uniform(6), do: random_action()) ++
      Enum.random([[:silence], [:close], [:serve]])
  end

  defp random_action do
    case :rand.uniform(12) do
      n when n <= 4 -> {:send, random_reply(3)}
      n when n <= 6 -> {:send, cut(random_reply(3))}
      7 -> {:send, changed(random_reply(3))}
      8 -> {:send, :rand.bytes(:rand.uniform(40))}
      9 -> {:slowly, cut(random_reply(2)), :rand.uniform(3)}
      10 -> {:pause, :rand.uniform(20)}
      11 -> {:send, random_length()}
      12 -> Enum.random([:default, :close, :reset, {:refuse, random_message()}])
    end
  end

  defp random_reply(depth) do
    case :rand.uniform(9) do
      1 -> "+OK\r\n"
      2 -> ":#{:rand.uniform(100) - 50}\r\n"
      3 -> "$-1\r\n"
      4 -> "*0\r\n"
      5 -> "-#{random_message()}\r\n"
      n when n <= 7 or depth == 0 -> bulk(random_bulk())
      _ -> array(for _ <- 1..:rand.uniform(4), do: random_reply(depth - 1))
    end
  end

  defp random_bulk do
    Enum.random([
      "",
      "0",
      :rand.bytes(:rand.uniform(30)),
      :erlang.term_to_binary(%{a: :rand.uniform(9)}),
      # The member of an index set for the key ["a", 1].
      "gwAB" <> Base.url_encode64(:erlang.term_to_binary(1), padding: false),
      Base.url_encode64(:erlang.term_to_binary(1), padding: false)
    ])
  end

  defp random_message do
    Enum.random([
      "ERR no",
      "LOADING later",
      "READONLY no",
      "OOM no",
      "NOAUTH no",
      "MOVED 1 127.0.0.1:1",
      "ASK 1 127.0.0.1:1",
      "WRONGTYPE no",
      "",
      " ",
      "lower case"
    ])
  end

  defp random_length do
    sign = Enum.random(["$", "*", "%", "~", ">", "_", "(", "=", "!", ","])

    size =
      Enum.random([
        "-1",
        "-2",
        "536870912",
        "4294967296",
        "9223372036854775807",
        "99999999999999999999",
        "1e3",
        ""
      ])

    sign <> size <> "\r\n"
  end

  defp bulk(bytes), do: "$#{byte_size(bytes)}\r\n#{bytes}\r\n"
  defp array(items), do: "*#{length(items)}\r\n#{Enum.join(items)}"
  defp cut(bytes), do: binary_part(bytes, 0, :rand.uniform(byte_size(bytes)) - 1)

  defp changed(bytes) do
    position = :rand.uniform(byte_size(bytes)) - 1
    front = binary_part(bytes, 0, position)
    back = binary_part(bytes, position + 1, byte_size(bytes) - position - 1)
    <<front::binary, :rand.uniform(256) - 1, back::binary>>
  end

  # The resident memory of the VM, in kilobytes.
  defp memory do
    [_, size] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(size)
  end

  test "the fake server replies like an empty Redis" do
    name = start(5_000, FakeServer.start!([:serve]))

    assert [{:ok, :not_found}, {:ok, :ok}, {:ok, :ok}, {:ok, []}] =
             for({_operation, outcome, _took} <- call_all(name), do: outcome)
  end
end
