defmodule PowRedisCache.SealedSecretsTest do
  # With :seal, no value and no key is in Redis's dump, in the VM's crash dump, in the state of a process, or
  # in a log.
  use ExUnit.Case, async: true

  @moduletag :integration

  alias PowRedisCache.{RedisServer, SealKeys}

  # Without compression, a search would find what is in the dump.
  setup do
    server = RedisServer.start!(["--rdbcompression", "no"])
    on_exit(fn -> RedisServer.stop(server) end)
    "a:" <> base64 = keys = SealKeys.generate("a")

    secrets = %{
      "EMAIL" => "ann.#{random()}@example.com",
      "HASH" => "$2b$12$#{random()}#{random()}",
      "KEY" => base64,
      "KEY_BYTES" => Base.decode64!(base64)
    }

    [server: server, keys: keys, secrets: secrets]
  end

  defp random, do: Base.encode32(:crypto.strong_rand_bytes(20))

  for {title, seal} <- [
        {"a function", "{System, :fetch_env!, [\"SESSION_KEYS\"]}"},
        {"a string", "System.fetch_env!(\"SESSION_KEYS\")"}
      ] do
    test "are not shown with keys from #{title}", context do
      search(context, unquote(seal))
    end
  end

  defp search(context, seal) do
    %{server: server, keys: keys, secrets: secrets} = context

    folder =
      Path.join(
        System.tmp_dir!(),
        "pow_redis_cache_secrets_#{System.unique_integer([:positive])}_#{System.pid()}"
      )

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    control = "control.#{random()}.of.the.search.in.the.dump.with.more.than.64.bytes"

    env = [
      {"REDIS_URL", RedisServer.url(server)},
      {"SESSION_KEYS", keys},
      {"EMAIL", secrets["EMAIL"]},
      {"HASH", secrets["HASH"]},
      {"CONTROL", control},
      {"ERL_CRASH_DUMP", Path.join(folder, "erl_crash.dump")}
    ]

    script = Path.join(folder, "app.exs")
    File.write!(script, app(seal))
    arguments = ["-pa", Application.app_dir(:pow_redis_cache, "ebin"), script]
    {output, status} = System.cmd("elixir", arguments, env: env, stderr_to_stdout: true)
    assert output =~ "all calls returned", output
    assert output =~ "ignored 1 values read from Redis"
    assert status != 0

    "OK" = RedisServer.command!(server, ["SAVE"])
    rdb = File.read!(Path.join(server.folder, "dump.rdb"))
    crash = File.read!(Path.join(folder, "erl_crash.dump"))

    # The search finds what is there.
    assert shown?(crash, control)
    "OK" = RedisServer.command!(server, ["SET", "plain", secrets["EMAIL"]])
    "OK" = RedisServer.command!(server, ["SAVE"])
    assert shown?(File.read!(Path.join(server.folder, "dump.rdb")), secrets["EMAIL"])

    for {name, secret} <- secrets, {place, text} <- [rdb: rdb, crash: crash, output: output] do
      refute shown?(text, secret), "#{name} is in the #{place}"
    end
  end

  # Logs in, reads, lists, reseals, makes a mistake, and crashes.
  defp app(seal) do
    """
    {:ok, _started} = Application.ensure_all_started(:logger)

    children = [
      {PowRedisCache, url: System.fetch_env!("REDIS_URL"), seal: #{seal}},
      {PowRedisCache, name: :other, url: System.fetch_env!("REDIS_URL")}
    ]

    children = for {module, options} <- children, do: Supervisor.child_spec({module, options}, id: options[:name])
    {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)

    # In a process of its own: what callers hold is theirs.
    calls = fn ->
      config = [namespace: "credentials", ttl: 60_000]
      user = %{email: System.fetch_env!("EMAIL"), hash: System.fetch_env!("HASH")}
      large = Map.put(user, :more, List.duplicate(user.hash, 1_000))
      :ok = PowRedisCache.put(config, [{["user", 1], user}, {["user", 2], large}])
      ^user = PowRedisCache.get(config, ["user", 1])
      [_, _] = PowRedisCache.all(config, ["user", :_])
      true = PowRedisCache.put_new(config, {["user", 3], user})
      :not_found = PowRedisCache.get([name: :other] ++ config, ["user", 1])
      %{keys: 3} = PowRedisCache.reseal()

      try do
        PowRedisCache.put(config, {"key", [user, fn -> user end]})
      rescue
        error -> IO.puts(Exception.format(:error, error, __STACKTRACE__))
      end

      :all_returned
    end

    task = Task.async(calls)
    :all_returned = Task.await(task, :infinity)
    IO.puts("all calls returned")

    for pid <- [supervisor, Process.whereis(PowRedisCache), Process.whereis(:other)] do
      IO.inspect(:sys.get_state(pid), limit: :infinity, printable_limit: :infinity)
      IO.inspect(:sys.get_status(pid), limit: :infinity, printable_limit: :infinity)
      IO.inspect(Process.info(pid), limit: :infinity, printable_limit: :infinity)
    end

    IO.inspect(PowRedisCache.info())
    IO.inspect(:persistent_term.get({PowRedisCache, PowRedisCache}), structs: false)

    # What the search has to find.
    parent = self()

    spawn(fn ->
      text = System.fetch_env!("CONTROL")
      send(parent, :held)
      receive do: (:never -> text)
    end)

    receive do: (:held -> :ok)
    :erlang.halt(~c"a crash with a dump")
    """
  end

  # As it is, or in base64 or base 16 as part of something longer.
  defp shown?(text, secret) do
    Enum.any?(forms(secret), &String.contains?(text, &1))
  end

  defp forms(secret) do
    base64 =
      for offset <- 0..2 do
        first = Enum.at([0, 2, 3], offset)
        length = 4 * div(offset + byte_size(secret), 3) - first
        padded = :binary.copy(<<0>>, offset) <> secret
        padded |> Base.encode64() |> binary_part(first, length)
      end

    [secret, Base.encode16(secret), Base.encode16(secret, case: :lower) | base64]
  end
end
