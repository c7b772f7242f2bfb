defmodule PowRedisCache.Url do
  @moduledoc false
  # The one parser of URLs, for those in options and those that functions return. A problem is
  # described without any part of the URL, since any part may be a part of a password.

  # Whether a scheme means TLS.
  @schemes %{"redis" => false, "rediss" => true, "valkey" => false, "valkeys" => true}
  @port 6379
  @max_database 65_535

  @encoding "In the user and password, percent-encode all but letters, digits and -._~ (%23 is #, " <>
              "%2F is /, %3F is ?, %40 is @, %25 is %), or use :username and :password"

  @invalid_port "a URL with a port that is not from 1 to 65535"
  @raw_character "a URL with a character that must be percent-encoded. " <> @encoding
  @other_scheme "a string without a known scheme. Write redis://, rediss:// or unix://"

  @doc """
  Returns `{:ok, server}` with an address, a username, a password, a database and whether to use
  TLS, or `{:error, problem}`.
  """
  def parse(url) do
    with {:ok, uri} <- split(url), do: server(uri)
  end

  defp split(url) do
    cond do
      Regex.match?(~r/\A\s|\s\z/, url) -> {:error, "a URL with white space around it. Trim it"}
      not Regex.match?(~r/\A[a-z]/i, url) -> {:error, @other_scheme}
      not encoded?(url) -> {:error, @raw_character}
      # Some versions of `URI` refuse it, and do not say why.
      Regex.match?(~r/:\d{6,}(?:\/[^@]*)?\z/, url) -> {:error, @invalid_port}
      true -> split_encoded(url)
    end
  end

  defp encoded?(url), do: Regex.match?(~r/\A(?:[!-$&-~]|%[0-9A-Fa-f]{2})*\z/, url)

  defp split_encoded(url) do
    case URI.new(url) do
      {:ok, %URI{fragment: nil} = uri} -> {:ok, uri}
      _invalid -> {:error, @raw_character}
    end
  end

  defp server(%URI{scheme: "unix", host: host, path: path, userinfo: nil, port: nil} = uri)
       when host in [nil, ""] and path not in [nil, "", "/"] do
    with {:ok, path} <- path(path),
         {:ok, query} <- query(uri.query || ""),
         {:ok, database} <- database(Map.get(query, "db", "0"), "the query part db=") do
      {:ok, server(path, query["user"], query["pass"], database, false)}
    end
  end

  defp server(%URI{scheme: "unix"}) do
    {:error,
     "a unix:// URL without an absolute path. Write three slashes: unix:///run/redis.sock"}
  end

  defp server(%URI{scheme: scheme, host: host} = uri) when is_map_key(@schemes, scheme) do
    cond do
      # What a raw / or ? in a password leaves behind.
      String.contains?("#{uri.path}#{uri.query}", "@") ->
        {:error, "a URL with an @ after its host. " <> @encoding}

      host in [nil, ""] ->
        {:error, "a URL without a host. Write redis://host"}

      String.contains?(host, "%") ->
        {:error, "a URL with a percent-encoded host. Write the host as it is"}

      uri.query not in [nil, ""] ->
        {:error, "a URL with a query. " <> query_advice(uri.query)}

      true ->
        with {:ok, port} <- port(uri.port),
             {:ok, database} <- database(path_database(uri.path), "the path") do
          {username, password} = login(uri.userinfo || "")
          {:ok, server({host, port}, username, password, database, @schemes[scheme])}
        end
    end
  end

  defp server(_uri), do: {:error, @other_scheme}

  defp server(address, username, password, database, tls) do
    %{
      address: address,
      username: decode(username),
      password: decode(password),
      database: database,
      tls: tls
    }
  end

  # A file name has any bytes but NUL.
  defp path(path) do
    path = URI.decode(path)

    if String.contains?(path, <<0>>),
      do: {:error, "a unix:// URL with a NUL byte in its path"},
      else: {:ok, path}
  end

  defp query(query) do
    parts =
      for part <- String.split(query, "&", trim: true), do: String.split(part, "=", parts: 2)

    names = Enum.map(parts, &hd/1)

    if Enum.all?(parts, &match?([name, _] when name in ["db", "user", "pass"], &1)) and
         names == Enum.uniq(names) do
      {:ok, Map.new(parts, &List.to_tuple/1)}
    else
      {:error, "a unix:// URL with an unknown query part. Allowed are db=, user= and pass=, once"}
    end
  end

  defp query_advice(query) do
    names = for part <- String.split(query, "&"), do: part |> String.split("=") |> hd()

    cond do
      Enum.any?(names, &(&1 in ~w(ssl tls ssl_cert_reqs))) ->
        "For TLS, write rediss://, and set :verify if the certificate is not to be verified"

      Enum.any?(names, &(&1 in ~w(db database))) ->
        "Write the database as the path: redis://host/3"

      true ->
        "Only unix:// URLs have one. Use the options instead"
    end
  end

  defp port(port) when port in [nil, :undefined], do: {:ok, @port}
  defp port(port) when port in 1..65_535, do: {:ok, port}
  defp port(_port), do: {:error, @invalid_port}

  defp path_database(path) when path in [nil, "", "/"], do: "0"
  defp path_database("/" <> database), do: database

  defp database(text, where) do
    with true <- Regex.match?(~r/\A[0-9]{1,5}\z/, text),
         number when number <= @max_database <- String.to_integer(text) do
      {:ok, number}
    else
      _other ->
        {:error, "a URL in which #{where} is not a database number from 0 to #{@max_database}"}
    end
  end

  defp login(userinfo) do
    case String.split(userinfo, ":", parts: 2) do
      [username, password] -> {username, password}
      [username] -> {username, nil}
    end
  end

  defp decode(text) when text in [nil, ""], do: nil
  defp decode(text), do: URI.decode(text)
end
