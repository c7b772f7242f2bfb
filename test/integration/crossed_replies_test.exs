defmodule PowRedisCache.CrossedRepliesTest do
  # A server, or a proxy, that adds, doubles, drops and splits replies: no caller gets the value of another
  # key. Each value names its key.
  use ExUnit.Case, async: true

  @moduletag :integration

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Cases, Certificates, Error, FakeServer, Resp}

  # A worker reconnects after half of it, at least after a second.
  @timeout 2_000
  @keys 8
  @callers 6

  for transport <- [:tcp, :tls, :unix] do
    test "no caller gets another key's value over #{transport}" do
      outcomes =
        1..Cases.count(40)
        |> Task.async_stream(&run(unquote(transport), &1), max_concurrency: 8, timeout: 120_000)
        |> Enum.flat_map(fn {:ok, outcomes} -> outcomes end)

      counts = Enum.frequencies(outcomes)
      IO.puts("\ncrossed replies over #{unquote(transport)}: #{inspect(counts)}")
      assert Map.get(counts, :crossed, 0) == 0
      assert counts[:own] > 0
      # The disturbances were noticed.
      assert counts[:reconnects] > 0
    end

    test "a reply that nobody asked for ends the connection over #{transport}" do
      # An extra reply comes while the connection is idle.
      server =
        start_server(unquote(transport), fn key ->
          [{:send, value(key)}, {:later, 20, value(key)}]
        end)

      get_until_connected(start_instance(server, pool_size: 1), server, 5, 1)
    end

    test "no caller of a pipeline gets a shifted reply over #{transport}" do
      # Within one pipeline, a reply too many precedes the others.
      server =
        start_server(unquote(transport), fn
          1 -> [{:pause, 20}, {:send, value(1)}, {:send, value(1)}]
          key -> [{:send, value(key)}]
        end)

      config = start_instance(server, pool_size: 1)

      for _ <- 1..5 do
        1..@keys
        |> Enum.map(fn key -> Task.async(fn -> {key, get(config, key)} end) end)
        |> Task.await_many(60_000)
        |> Enum.each(fn {key, outcome} -> assert outcome in [:own, :failed], "#{key}" end)
      end
    end
  end

  # On a busy machine an extra reply may come so late that only one of the next reads notices it.
  defp get_until_connected(config, server, connections, key) do
    assert PowRedisCache.get(config, key) == {:value_of, key}
    Process.sleep(60)

    if FakeServer.connections(server) < connections,
      do: get_until_connected(config, server, connections, key + 1)
  end

  # Runs callers against a server that disturbs its replies. Returns what each call came to.
  defp run(transport, number) do
    seed = ExUnit.configuration()[:seed]
    :rand.seed(:exsss, {seed, number, :erlang.phash2(transport)})

    # Each connection has a kind of disturbance: within a round, replies are either added or lost. A round
    # in which equally many are added and lost cannot be noticed.
    script = fn connection ->
      :rand.seed(:exsss, {seed, number * 1_000 + connection, :erlang.phash2(transport)})
      kind = Enum.random([:more, :fewer, :none])
      [{:serve, fn command -> slow_down() ++ disturb(kind, reply(command)) end}]
    end

    server = FakeServer.start!(script, transport: transport, at: Enum.random([:command, :login]))
    {config, owner} = start_unsupervised(server, pool_size: Enum.random([1, 2]))
    deadline = System.monotonic_time(:millisecond) + 2_500

    outcomes =
      1..@callers
      |> Enum.map(fn caller -> Task.async(fn -> call_until(config, caller, deadline, []) end) end)
      |> Task.await_many(60_000)
      |> Enum.concat()

    reconnects = PowRedisCache.info(config[:name]).reconnects
    GenServer.stop(owner)
    FakeServer.stop(server)
    outcomes ++ List.duplicate(:reconnects, reconnects)
  end

  defp call_until(config, caller, deadline, outcomes) do
    if System.monotonic_time(:millisecond) > deadline do
      outcomes
    else
      if :rand.uniform(10) == 1, do: Process.sleep(:rand.uniform(60))

      outcome =
        if :rand.uniform(4) == 1,
          do: write(config, caller),
          else: get(config, :rand.uniform(@keys))

      call_until(config, caller, deadline, [outcome | outcomes])
    end
  end

  defp get(config, key) do
    if PowRedisCache.get(config, key) == {:value_of, key}, do: :own, else: :crossed
  rescue
    Error -> :failed
  end

  # Writes share pipelines with reads, and have replies of other types.
  defp write(config, caller) do
    key = ["written", caller]
    :ok = PowRedisCache.put(config, {key, caller})
    :written
  rescue
    Error -> :failed
  end

  # Meanwhile further commands come, and share a pipeline.
  defp slow_down, do: if(:rand.uniform(8) == 1, do: [{:pause, 4}], else: [])

  defp disturb(:none, reply), do: [send_whole_or_split(reply)]

  defp disturb(:more, reply) do
    case :rand.uniform(20) do
      1 -> [{:send, reply}, {:send, reply}]
      2 -> [{:send, extra()}, {:send, reply}]
      3 -> [{:send, [reply, extra(), extra()]}]
      4 -> [{:send, reply}, {:later, :rand.uniform(30), reply}]
      5 -> [{:send, reply}, {:later, :rand.uniform(30), extra()}]
      _ -> [send_whole_or_split(reply)]
    end
  end

  defp disturb(:fewer, reply) do
    case :rand.uniform(20) do
      1 -> []
      2 -> [{:send, binary_part(reply, 0, :rand.uniform(byte_size(reply)) - 1)}]
      _ -> [send_whole_or_split(reply)]
    end
  end

  defp send_whole_or_split(reply) do
    if :rand.uniform(30) == 1 and byte_size(reply) < 100,
      do: {:slowly, reply, 1},
      else: {:send, reply}
  end

  defp extra do
    Enum.random([value(:nobody), "$-1\r\n", "+OK\r\n", ":1\r\n", Resp.bulk("0123456789abcdef")])
  end

  # A server that gives each key its value, or plays actions for it.
  defp start_server(transport, actions) do
    serve = fn command ->
      case key(command) do
        {:ok, key} -> actions.(key)
        :error -> [{:send, reply(command)}]
      end
    end

    FakeServer.start!([{:serve, serve}], transport: transport)
  end

  defp reply(["GET", _] = command) do
    {:ok, key} = key(command)
    value(key)
  end

  defp reply(command), do: FakeServer.reply(command)

  # Keys are `namespace:key`, each part as a term in Base64.
  defp key(["GET", key]) do
    part = key |> String.split(":") |> List.last() |> Base.url_decode64!(padding: false)
    {:ok, :erlang.binary_to_term(part)}
  end

  defp key(_command), do: :error

  defp value(key), do: Resp.bulk(:erlang.term_to_binary({:value_of, key}))

  defp start_instance(server, options) do
    config = config()
    start_supervised!({PowRedisCache, options(config, server, options)}, id: config[:name])
    config
  end

  defp start_unsupervised(server, options) do
    config = config()
    {:ok, owner} = PowRedisCache.start_link(options(config, server, options))
    {config, owner}
  end

  defp config, do: [name: unique_name(), namespace: "crossed", ttl: 60_000]

  defp options(config, server, options) do
    ca = if server.url =~ "rediss", do: [cacertfile: Certificates.path(:ca)], else: []
    [name: config[:name], url: server.url, timeout: @timeout] ++ ca ++ options
  end
end
