defmodule PowRedisCache.SealKeysTest do
  # The forms of the keys of :seal. No message shows a key or an id.
  use ExUnit.Case, async: true

  import PowRedisCache.Case, only: [unique_name: 0]

  alias PowRedisCache.{Options, SealKeys}

  def key, do: :crypto.strong_rand_bytes(32)

  describe "keys are accepted" do
    test "as text, separated by commas, with whitespace" do
      {one, other} = {key(), key()}
      text = " b:#{Base.encode64(one)},\n a.1_-:#{Base.url_encode64(other, padding: false)}\n"
      assert SealKeys.resolve(text) == {:ok, [{"b", one}, {"a.1_-", other}]}
    end

    test "as bytes, base64 or functions, each with an id" do
      keys = for _ <- 1..5, do: key()
      [bytes, base64, url, function, mfa] = keys

      entries = [
        {"a", bytes},
        {"b", Base.encode64(base64) <> "\n"},
        {"c", Base.url_encode64(url)},
        {"d", fn -> function end},
        {"123456789012", {Base, :encode64, [mfa]}}
      ]

      expected = Enum.zip(["a", "b", "c", "d", "123456789012"], keys)
      assert SealKeys.resolve(entries) == {:ok, expected}
      assert SealKeys.resolve(fn -> entries end) == {:ok, expected}
      assert SealKeys.problem(entries) == nil
    end

    test "as a function that returns text" do
      text = SealKeys.generate("a")
      assert {:ok, [{"a", <<_::binary-size(32)>>}]} = SealKeys.resolve(fn -> text end)
      assert {:ok, [{"a", _key}]} = SealKeys.resolve({Function, :identity, [text]})
      assert SealKeys.problem(fn -> raise "not called" end) == nil
    end
  end

  test "what is wrong with keys is said without them" do
    key = key()
    secret = "s3cret-s3cret-s3cret-s3cret-s3cr"
    id = "an id that is not 1 to 12 letters, digits, dots or hyphens"
    text = &"a:#{Base.encode64(&1)}"

    for {keys, problem} <- [
          {nil, "nil"},
          {[], "an empty list"},
          {1, "an integer"},
          {[{"a", key} | :s3cret], "an improper list"},
          {"", "key 1 without an id: write id:key"},
          {"s3cret", "key 1 without an id: write id:key"},
          {text.(key) <> ",", "key 2 without an id: write id:key"},
          {":" <> Base.encode64(key), "key 1 with #{id}"},
          {"s3cret s3cret:" <> Base.encode64(key), "key 1 with #{id}"},
          {[{"1234567890123", key}], "key 1 with #{id}"},
          {[{:s3cret, key}], "key 1 with #{id}"},
          {[{key, "s3cret"}], "key 1 with #{id}"},
          {[key], "a string instead of {id, key} as element 1"},
          {"a:s3cret s3cret", "key 1 with neither 32 bytes nor base64"},
          {text.(binary_part(key, 0, 31)), "key 1 with 31 bytes instead of 32"},
          {text.(key <> "a"), "key 1 with 33 bytes instead of 32"},
          {[{"a", binary_part(key, 0, 8)}], "key 1 with neither 32 bytes nor base64"},
          {[{"a", :s3cret}], "key 1 with an atom instead of 32 bytes"},
          {[{"a", key}, {"b", <<0::256>>}], "key 2 with bytes that are not random"},
          {[{"a", :binary.copy(binary_part(key, 0, 8), 4)}],
           "key 1 with bytes that are not random"},
          {text.(<<255::size(256)>>), "key 1 with bytes that are not random"},
          {[{"a", secret}], "key 1 with text instead of random bytes"},
          {text.(secret), "key 1 with text instead of random bytes"},
          {[{"a", key}, {"a", key()}], "two keys with the same id"},
          {[{"a", key}, {"b", Base.encode64(key)}], "two keys with the same bytes"}
        ] do
      assert SealKeys.problem(keys) == problem
      assert SealKeys.resolve(keys) == {:error, problem}
      assert SealKeys.resolve(fn -> keys end) == {:error, problem}

      message =
        "expected :keys of :seal to be keys as mix pow_redis_cache.gen.key prints them, " <>
          "a list of {id, key}, or a function, got: " <> problem

      assert_raise ArgumentError, message, fn -> Options.validate!(seal: [keys: keys]) end
    end
  end

  test "what is wrong with a function is said without what it returns or raises" do
    for {keys, problem} <- [
          {fn -> raise "s3cret" end, "a function that failed (RuntimeError)"},
          {fn -> throw("s3cret") end, "a function that failed (:throw)"},
          {{System, :fetch_env!, ["S3CRET"]}, "a function that failed (#{missing()})"},
          {fn -> fn -> "s3cret" end end, "a function of arity 0"},
          {fn -> :s3cret end, "an atom"},
          {[{"a", fn -> exit("s3cret") end}], "key 1 with a function that failed (:exit)"},
          {[{"a", fn -> fn -> key() end end}], "key 1 with a function of arity 0"},
          {[{"a", fn -> nil end}], "key 1 with nil"}
        ] do
      assert SealKeys.problem(keys) == nil
      assert SealKeys.resolve(keys) == {:error, problem}
    end
  end

  # System.EnvError exists since Elixir 1.15.
  defp missing do
    System.fetch_env!("S3CRET")
  rescue
    error -> inspect(error.__struct__)
  end

  test "an instance does not start if a function fails" do
    Process.flag(:trap_exit, true)
    options = [name: unique_name(), url: "redis://127.0.0.1:1", seal: fn -> raise "s3cret" end]
    assert {:error, %ArgumentError{message: message}} = PowRedisCache.start_link(options)
    assert message =~ "expected :keys of :seal to be"
    assert message =~ "got: a function that failed (RuntimeError)"
    refute Process.whereis(options[:name])
  end

  test "a key is generated" do
    assert "2026-11:" <> base64 = text = SealKeys.generate("2026-11")
    assert {:ok, <<_::binary-size(32)>>} = Base.decode64(base64)
    assert SealKeys.problem(text) == nil
    refute SealKeys.generate("2026-11") == text
  end
end
