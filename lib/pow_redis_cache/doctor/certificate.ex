defmodule PowRedisCache.Doctor.Certificate do
  @moduledoc false
  # The issuer and the expiry date of a certificate.

  defstruct [:issuer, :expires]

  @common_name {2, 5, 4, 3}
  @organization {2, 5, 4, 10}

  @doc "Parses a DER certificate. Returns `nil` if it is invalid or if `:public_key` is missing."
  def read(nil), do: nil

  def read(der) do
    if Code.ensure_loaded?(:public_key), do: decode(der)
  end

  defp decode(der) do
    certificate = elem(:public_key.pkix_decode_cert(der, :otp), 1)
    {:rdnSequence, issuer} = elem(certificate, 4)
    {:Validity, _from, until} = elem(certificate, 5)
    %__MODULE__{issuer: name(issuer), expires: time(until)}
  rescue
    # A server may send anything as its certificate.
    _ -> nil
  end

  defp name(attributes) do
    attributes =
      for {:AttributeTypeAndValue, type, value} <- Enum.concat(attributes), do: {type, value}

    Enum.find_value([@common_name, @organization], "an unnamed issuer", fn type ->
      with {_type, value} <- List.keyfind(attributes, type, 0), do: text(value)
    end)
  end

  defp text({_kind, text}), do: to_string(text)
  defp text(text), do: to_string(text)

  defp time({:utcTime, text}) do
    # Two digits stand for the years 1950 to 2049.
    {year, rest} = text |> to_string() |> String.split_at(2)
    century = if String.to_integer(year) < 50, do: "20", else: "19"
    time({:generalTime, century <> year <> rest})
  end

  defp time({:generalTime, text}) do
    [_ | fields] = Regex.run(~r/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, to_string(text))
    [year, month, day, hour, minute, second] = Enum.map(fields, &String.to_integer/1)
    DateTime.new!(Date.new!(year, month, day), Time.new!(hour, minute, second))
  end
end
