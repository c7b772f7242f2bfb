defmodule PowRedisCache.Terms do
  @moduledoc """
  Random keys and patterns. Seed the random number generator of the process first.

  Keys are built from few terms, so that patterns match some of them.
  """

  @atoms [:a, :user, :session, MyApp.User, :é, :日本, nil, true, :"$x", :"a:b"]
  @binaries ["", "a", "a:b", "*", "?", "[a]", "\\", <<255>>, <<0, 131>>, "日本"]
  @numbers [0, 1, 1.0, -1, 255, 256, 2_147_483_648, -9_223_372_036_854_775_809, 1.5, 1.0e300]

  @doc "A key: usually a list of parts, sometimes a bare part."
  def key do
    case :rand.uniform(10) do
      1 -> bare()
      n -> for _ <- 1..rem(n, 5)//1, do: term(2)
    end
  end

  @doc "A pattern: one of the keys with some parts replaced by wildcards and variables, or a new pattern."
  def pattern(keys) do
    case :rand.uniform(12) do
      1 -> :_
      2 -> :"$1"
      3 -> key()
      4 -> for _ <- 1..:rand.uniform(4), do: Enum.random([:_, :"$1", :"$2"])
      5 -> open_end(keys |> Enum.random() |> List.wrap())
      _ -> keys |> Enum.random() |> List.wrap() |> Enum.map(&loosen/1)
    end
  end

  defp open_end([]), do: []

  defp open_end(parts) do
    {front, _rest} = Enum.split(parts, :rand.uniform(length(parts)))
    Enum.map(front, &loosen/1) ++ Enum.random([:_, :"$9"])
  end

  # `List.wrap/1` turns a list into its parts and nil into none.
  defp bare do
    case term(1) do
      list when is_list(list) -> {list}
      nil -> :none
      term -> term
    end
  end

  defp term(0) do
    Enum.random(Enum.random([@atoms, @binaries, @numbers, [[], {}, %{}, <<5::3>>]]))
  end

  defp term(depth) do
    case :rand.uniform(14) do
      1 -> for _ <- 1..:rand.uniform(3), do: term(depth - 1)
      2 -> List.to_tuple(for _ <- 1..:rand.uniform(3), do: term(depth - 1))
      3 -> Map.new(1..:rand.uniform(3), fn _ -> {term(depth - 1), term(depth - 1)} end)
      4 -> [term(depth - 1) | Enum.random([:tail, "tail", 7])]
      5 -> Enum.take([97, 98, 0, 255], :rand.uniform(4))
      _ -> term(0)
    end
  end

  defp loosen(term) do
    case {:rand.uniform(8), term} do
      {n, _} when n <= 2 ->
        :_

      {3, _} ->
        :"$1"

      {4, _} ->
        :"$2"

      {_, list} when is_list(list) ->
        loosen_list(list)

      {_, tuple} when is_tuple(tuple) ->
        tuple |> Tuple.to_list() |> Enum.map(&loosen/1) |> List.to_tuple()

      {_, map} when is_map(map) ->
        loosen_map(map)

      {_, term} ->
        term
    end
  end

  defp loosen_list([]), do: []
  defp loosen_list([head | tail]) when is_list(tail), do: [loosen(head) | loosen_list(tail)]
  defp loosen_list([head | tail]), do: [loosen(head) | loosen(tail)]

  defp loosen_map(map) do
    map
    |> Enum.take_random(:rand.uniform(map_size(map) + 1) - 1)
    |> Map.new(fn {key, value} -> {key, loosen(value)} end)
  end
end
