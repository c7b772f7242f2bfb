defmodule PowRedisCache.Bench.NifTime do
  @moduledoc """
  Measures how long native functions take for arguments of different shapes and sizes: the time has to grow
  no faster than the size, and what a normal scheduler handles has to end within a millisecond.
  """

  alias PowRedisCache.{Instance, Native, RedisServer}

  @name __MODULE__
  @sizes [100, 1_000, 10_000, 100_000, 1_000_000, 8_000_000]
  # The most bytes of a key whose Redis key is not too long, nearly.
  @key_sizes [100, 250, 500, 1_000, 2_000, 4_000, 8_000, 12_000]
  @parts [1, 2, 4, 8, 16, 32, 64]

  @doc "Returns rows of the function, the shape, its size in bytes, and microseconds: median and slowest."
  def run do
    server = RedisServer.start!()

    {:ok, pid} =
      PowRedisCache.start_link(name: @name, url: RedisServer.url(server), timeout: 60_000)

    :ok = PowRedisCache.ping(@name)
    %{native: instance} = Instance.fetch!(@name, :get)
    rows = keys(instance) ++ parts(instance) ++ values(instance) ++ records(instance)
    GenServer.stop(pid)
    RedisServer.stop(server)
    rows
  end

  @doc "The rows as a table."
  def table(rows) do
    lines =
      for {function, shape, bytes, median, slowest} <- rows do
        [
          String.pad_trailing("#{function}", 8),
          String.pad_trailing(shape, 34),
          String.pad_leading("#{bytes}", 10),
          String.pad_leading(micros(median), 14),
          String.pad_leading(micros(slowest), 14),
          String.pad_leading(micros(1_000 * median / bytes), 14),
          "\n"
        ]
      end

    [
      "function shape",
      String.duplicate(" ", 34),
      "bytes     median µs    slowest µs       ns a byte\n" | lines
    ]
  end

  defp micros(number), do: :erlang.float_to_binary(number / 1, decimals: 1)

  defp keys(instance) do
    for {shape, term} <- shapes(), size <- @key_sizes do
      key = :erlang.term_to_binary(["n", term.(size)])

      for {function, call} <- [
            get: &Native.get(instance, &1, key, false),
            delete: &Native.delete(instance, &1, key),
            all: &Native.all(instance, &1, key, false)
          ],
          do: row(function, "a key of #{shape}", byte_size(key), call)
    end
    |> List.flatten()
  end

  defp parts(instance) do
    value = :erlang.term_to_binary(1)

    for parts <- @parts do
      key = :erlang.term_to_binary(["n" | List.duplicate("a part of twenty bytes", parts)])

      for {function, call} <- [
            put: &Native.put(instance, &1, [{key, value}], 60_000),
            delete: &Native.delete(instance, &1, key)
          ],
          do: row(function, "#{parts} parts", byte_size(key), call)
    end
    |> List.flatten()
  end

  defp values(instance) do
    key = :erlang.term_to_binary(["n", "key"])

    for {shape, term} <- shapes(), size <- @sizes do
      value = :erlang.term_to_binary(term.(size))

      row(
        :put,
        "a value of #{shape}",
        byte_size(value),
        &Native.put(instance, &1, [{key, value}], 60_000)
      )
    end
  end

  defp records(instance) do
    value = :erlang.term_to_binary(String.duplicate("x", 100))

    for number <- [1, 10, 50, 100, 1_000, 10_000] do
      records =
        for id <- 1..number, do: {:erlang.term_to_binary(["n", User, id, :session]), value}

      bytes = Enum.sum(for {key, value} <- records, do: byte_size(key) + byte_size(value))
      row(:put, "#{number} records", bytes, &Native.put(instance, &1, records, 60_000))
    end
  end

  # Terms that take about so many bytes when encoded.
  defp shapes do
    [
      {"one binary", &String.duplicate("x", &1)},
      {"empty lists", &List.duplicate([], &1)},
      {"small tuples", &List.duplicate({1, 2}, div(&1, 6))},
      {"atoms", &List.duplicate(:atom, div(&1, 6))},
      {"maps", &List.duplicate(%{a: 1, b: 2}, div(&1, 17))},
      {"250 nested maps", &nested(250, div(&1, 250), fn below, fill -> %{fill => below} end)},
      {"250 nested lists", &nested(250, div(&1, 250), fn below, fill -> [fill, below] end)}
    ]
  end

  defp nested(depth, bytes, around) do
    fill = String.duplicate("x", max(bytes - 12, 0))
    Enum.reduce(1..depth, :end, fn _level, below -> around.(below, fill) end)
  end

  defp row(function, shape, bytes, call) do
    times = bytes |> repetitions() |> times(call) |> Enum.sort()
    {function, shape, bytes, Enum.at(times, div(length(times), 2)), List.last(times)}
  end

  defp repetitions(bytes), do: 10_000_000 |> div(bytes) |> max(3) |> min(100)

  defp times(number, call) do
    for _ <- 1..number do
      reference = make_ref()
      begin = :erlang.monotonic_time(:nanosecond)
      result = call.(reference)
      time = :erlang.monotonic_time(:nanosecond) - begin

      # Refused: the time counts as well.
      with {:ok, _handle} <- result, do: receive(do: ({^reference, _result} -> :ok))
      time / 1_000
    end
  end
end
