defmodule PowRedisCache.SealedValue do
  @moduledoc """
  Sealed values, made and opened without the native library, so that the code under test does not check
  itself: XChaCha20-Poly1305 as draft-irtf-cfrg-xchacha-03 builds it from HChaCha20 and OTP's
  ChaCha20-Poly1305.
  """

  import Bitwise

  @never 0x7FFFFFFFFFFFFFFF

  @doc """
  Seals bytes for a Redis key. `expires` is in Unix milliseconds, or `:never`. Without a nonce, it is
  random.
  """
  def seal(bytes, {id, key}, redis_key, expires, nonce \\ :crypto.strong_rand_bytes(24)) do
    header = header(id, expires)
    {subkey, rest} = derive(key, nonce)

    {ciphertext, tag} =
      :crypto.crypto_one_time_aead(
        :chacha20_poly1305,
        subkey,
        rest,
        bytes,
        header <> redis_key,
        true
      )

    header <> nonce <> ciphertext <> tag
  end

  @doc "Opens a sealed value. Returns `{id, expires, bytes}` or `:error`."
  def open(sealed, key, redis_key) do
    with <<header::binary-size(22), nonce::binary-size(24), rest::binary>> <- sealed,
         <<0xAE, 1, id::binary-size(12), expires::64>> <- header,
         {subkey, nonce} = derive(key, nonce),
         size = byte_size(rest) - 16,
         <<ciphertext::binary-size(size), tag::binary-size(16)>> <- rest,
         bytes when is_binary(bytes) <-
           :crypto.crypto_one_time_aead(
             :chacha20_poly1305,
             subkey,
             nonce,
             ciphertext,
             header <> redis_key,
             tag,
             false
           ) do
      expires = if expires == @never, do: :never, else: expires
      {String.trim_trailing(id, <<0>>), expires, bytes}
    else
      _ -> :error
    end
  end

  defp header(id, :never), do: header(id, @never)

  defp header(id, expires) do
    <<0xAE, 1, id::binary, 0::size(8 * (12 - byte_size(id))), expires::64>>
  end

  # The key and nonce of ChaCha20-Poly1305.
  defp derive(key, <<start::binary-size(16), rest::binary-size(8)>>) do
    {hchacha20(key, start), <<0::32, rest::binary>>}
  end

  defp hchacha20(key, nonce) do
    state =
      for(<<word::little-32 <- "expand 32-byte k" <> key <> nonce>>, do: word)
      |> Enum.with_index()
      |> Map.new(fn {word, index} -> {index, word} end)

    state = Enum.reduce(1..10, state, fn _, state -> double_round(state) end)
    for index <- [0, 1, 2, 3, 12, 13, 14, 15], into: <<>>, do: <<state[index]::little-32>>
  end

  @columns [{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15}]
  @diagonals [{0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}]

  defp double_round(state), do: Enum.reduce(@columns ++ @diagonals, state, &quarter_round/2)

  defp quarter_round({a, b, c, d}, state) do
    state
    |> mix(a, b, d, 16)
    |> mix(c, d, b, 12)
    |> mix(a, b, d, 8)
    |> mix(c, d, b, 7)
  end

  # x += y, z = rotate(z ^ x).
  defp mix(state, x, y, z, bits) do
    sum = state[x] + state[y] &&& 0xFFFFFFFF
    word = bxor(state[z], sum)
    rotated = (word <<< bits ||| word >>> (32 - bits)) &&& 0xFFFFFFFF
    %{state | x => sum, z => rotated}
  end
end
