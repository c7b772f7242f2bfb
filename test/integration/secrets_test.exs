defmodule PowRedisCache.SecretsTest do
  # No option and no answer of a function shows a secret, valid or not, of whatever bytes: in exceptions,
  # stack traces, logs, crash reports, or the state of a process.
  use ExUnit.Case, async: false

  @moduletag :integration

  import ExUnit.CaptureLog
  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Cases, Doctor, RedisServer}

  # Options that may hold a secret, also by mistake, and functions that may return or raise it.
  @options [
    :url,
    :username,
    :password,
    :cacertfile,
    :certfile,
    :keyfile,
    :server_name,
    :tls_versions,
    :database,
    :sentinel,
    :cluster,
    :tls,
    :verify,
    :pool_size,
    :timeout,
    :writes,
    :index,
    :seal,
    :default_ttl
  ]

  setup_all do
    node = RedisServer.start!(["--requirepass", "server"], password: "server")
    on_exit(fn -> RedisServer.stop(node) end)
    [url: "redis://127.0.0.1:#{node.port}"]
  end

  test "in no option is shown", %{url: url} do
    for _ <- 1..Cases.count(600) do
      secret = secret()
      check(secret, options(secret, url))
    end
  end

  test "is not shown by any option in any shape", %{url: url} do
    for option <- @options, secret <- [text(), bytes()] do
      for shape <- secret |> shapes() |> Enum.take_random(Cases.count(50)) do
        check(secret, Keyword.new([{:url, url}, {option, shape}]))
      end
    end
  end

  test "is not shown if the options are no keyword list" do
    secret = text()

    for options <- [
          secret,
          %{password: secret},
          [secret],
          [{"password", secret}],
          [{:a, 1} | secret]
        ] do
      check(secret, options)
    end

    defmodule Sessions do
      use PowRedisCache
    end

    for options <- [secret, %{password: secret}, [secret, {:name, 1}], [{"password", secret}]],
        function <- [:child_spec, :start_link] do
      assert_hidden(secret, failure(fn -> apply(Sessions, function, [options]) end))
    end
  end

  test "is not shown if the native library refuses the options" do
    for function <- [
          &PowRedisCache.Native.start/1,
          &PowRedisCache.Native.doctor(&1, [], 1, make_ref())
        ] do
      assert {:error, _reason} = function.(%{password: text()})
    end
  end

  test "in a value is not shown by a wrong call", %{url: url} do
    name = unique_name()
    start_supervised!({PowRedisCache, url: url, password: "server", name: name})
    config = [name: name, ttl: 1_000]
    secret = text()
    function = fn -> secret end

    for call <- [
          fn -> PowRedisCache.put({"key", secret}, config) end,
          fn -> PowRedisCache.put(config, {"key", secret, 1}) end,
          fn -> PowRedisCache.put(config, secret) end,
          fn -> PowRedisCache.put(config, [{"key", secret} | {"key", secret}]) end,
          fn -> PowRedisCache.put(config, {"key", [secret, function]}) end,
          fn -> PowRedisCache.put(config, {[secret | secret], 1}) end,
          fn -> PowRedisCache.get(secret, "key") end,
          fn -> PowRedisCache.get(config, [secret | secret]) end,
          fn -> PowRedisCache.all(config, [secret, function]) end
        ] do
      assert {:raised, _error, _text, _stacktrace} = shown = failure(call)
      assert_hidden(secret, shown)
    end
  end

  defp secret, do: Enum.random([&text/0, &bytes/0, &long/0]).()

  # Long enough that they do not occur by chance.
  defp text, do: for(_ <- 1..16, into: "s3cret", do: <<Enum.random(?a..?z)>>)
  defp bytes, do: <<255, 0, 13, 10>> <> :crypto.strong_rand_bytes(16)
  defp long, do: text() <> String.duplicate("x", 100_000)

  defp options(secret, url) do
    number = :rand.uniform(3)
    shapes = shapes(secret)

    [url: url]
    |> Keyword.merge(
      for option <- Enum.take_random(@options, number), do: {option, Enum.random(shapes)}
    )
  end

  defp shapes(secret) do
    encoded = URI.encode(secret, &URI.char_unreserved?/1)

    values = [
      secret,
      "redis://:#{secret}@127.0.0.1",
      "redis://:#{encoded}@127.0.0.1:1",
      "redis://#{encoded}:x@127.0.0.1:1",
      "redis://127.0.0.1:1?#{secret}",
      "redis://127.0.0.1:1/#{encoded}",
      "#{secret}://h",
      "unix:///nonexistent?pass=#{encoded}",
      :binary.bin_to_list(secret),
      [secret],
      ["redis://:#{encoded}@127.0.0.1:1"],
      ["redis://:#{secret}@127.0.0.1:1"],
      ["redis://h" | secret],
      {secret},
      {:ok, secret},
      %{secret => secret},
      [password: secret],
      [sentinels: ["redis://127.0.0.1:1"], group: secret],
      [sentinels: ["redis://:#{encoded}@127.0.0.1:1"], group: "g", password: secret],
      [sentinels: ["redis://:#{secret}@127.0.0.1:1"], group: "g", keyfile: secret],
      [keys: secret],
      [keys: [{secret, secret}]],
      [keys: [{"a", secret}, {"a", binary_part(secret, 0, 20) <> <<0::96>>}], plain: :refuse],
      "a:" <> Base.encode64(secret),
      <<secret::binary, 1::3>>,
      fn _ -> secret end,
      {String, :upcase, [secret | secret]}
    ]

    functions =
      for value <- Enum.take_random(values, 3),
          function <- [
            fn -> value end,
            fn -> raise "#{inspect(value)}" end,
            fn -> throw(value) end,
            fn -> exit(value) end,
            fn -> :erlang.error(value) end,
            fn -> apply(String, :upcase, [value, value, value]) end,
            {Function, :identity, [value]},
            {String, :to_integer, [value]},
            {:no_module, :no_function, [value]}
          ],
          do: function

    values ++ functions
  end

  # Starts an instance as apps do, uses it, and searches all that is printed.
  defp check(secret, options) do
    name = unique_name()

    options =
      if Keyword.keyword?(options),
        do: Keyword.merge([name: name, timeout: 40, connect_timeout: 40, pool_size: 1], options),
        else: options

    {printed, log} = with_log(fn -> run(name, options) end)
    assert_hidden(secret, [printed, log])
  end

  defp run(name, options) do
    Process.flag(:trap_exit, true)

    started =
      failure(fn -> Supervisor.start_link([{PowRedisCache, options}], strategy: :one_for_one) end)

    direct = failure(fn -> PowRedisCache.child_spec(options) end)

    used =
      case Process.whereis(name) do
        nil -> []
        pid -> use_instance(name, pid)
      end

    checked =
      if :rand.uniform(20) == 1 and Keyword.keyword?(options), do: doctor(options), else: []

    with {:returned, {:ok, supervisor}} <- started, do: Supervisor.stop(supervisor)
    [show(started), show(direct), used, checked]
  end

  defp use_instance(name, pid) do
    config = [name: name, namespace: "n", ttl: 1_000]

    shown = [
      failure(fn -> PowRedisCache.put(config, {"key", 1}) end),
      failure(fn -> PowRedisCache.get(config, "key") end),
      failure(fn -> PowRedisCache.info(name) end),
      :sys.get_state(pid),
      :sys.get_status(pid),
      Process.info(pid),
      Process.info(pid, [:dictionary, :messages, :current_stacktrace]),
      :persistent_term.get({PowRedisCache, name})
    ]

    # A crash report of the owner.
    reference = Process.monitor(pid)
    send(pid, {:pow_redis_cache, :no_such_event})

    receive do
      {:DOWN, ^reference, :process, ^pid, reason} -> [show(shown), show(reason)]
    after
      5_000 -> flunk("the owner did not end")
    end
  end

  defp doctor(options) do
    options = Keyword.delete(options, :name)
    [show(failure(fn -> Doctor.check(options) end))]
  end

  # What a function returns or raises, with its stack trace.
  defp failure(function) do
    {:returned, function.()}
  rescue
    error -> {:raised, error, Exception.format(:error, error, __STACKTRACE__), __STACKTRACE__}
  catch
    kind, reason -> {kind, reason, Exception.format(kind, reason, __STACKTRACE__)}
  end

  defp show(term), do: inspect(term, limit: :infinity, printable_limit: :infinity)

  defp assert_hidden(secret, printed) do
    text = if is_binary(printed), do: printed, else: show(printed)

    for form <- forms(secret) do
      refute String.contains?(text, form),
             "shows #{inspect(form)}:\n#{String.slice(text, 0, 20_000)}"
    end
  end

  # How a secret may be printed. Its first 20 bytes suffice.
  defp forms(secret) do
    start = binary_part(secret, 0, 20)
    numbers = start |> :binary.bin_to_list() |> Enum.join(", ")

    [
      start,
      start |> inspect() |> String.trim("\""),
      numbers,
      String.replace(numbers, " ", ""),
      Base.encode64(binary_part(secret, 0, 18)),
      Base.encode16(start),
      Base.encode16(start, case: :lower),
      URI.encode(start, &URI.char_unreserved?/1),
      start |> :binary.bin_to_list() |> inspect() |> String.trim("'")
    ]
    |> Enum.uniq()
  end
end
