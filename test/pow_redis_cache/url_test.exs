defmodule PowRedisCache.UrlTest do
  use ExUnit.Case, async: true

  alias PowRedisCache.{Cases, Endpoint, Options, Url}

  @server %{address: {"h", 6379}, username: nil, password: nil, database: 0, tls: false}

  @valid [
    {"redis://h", @server},
    {"redis://h/", @server},
    {"redis://h:", @server},
    {"redis://h:6380/15", %{@server | address: {"h", 6380}, database: 15}},
    {"REDIS://h", @server},
    {"RedisS://h", %{@server | tls: true}},
    {"rediss://h", %{@server | tls: true}},
    {"valkey://h", @server},
    {"valkeys://h", %{@server | tls: true}},
    {"redis://my_host-1.example.com", %{@server | address: {"my_host-1.example.com", 6379}}},
    {"redis://[::1]:1", %{@server | address: {"::1", 1}}},
    {"redis://:pw@h", %{@server | password: "pw"}},
    {"redis://h:pw@h", %{@server | username: "h", password: "pw"}},
    {"redis://ann@h", %{@server | username: "ann"}},
    {"redis://ann:@h", %{@server | username: "ann"}},
    {"redis://:@h", @server},
    {"redis://@h", @server},
    {"redis://u:a:b@h", %{@server | username: "u", password: "a:b"}},
    {"redis://u%3Av:a+b%2B%2f%40@h", %{@server | username: "u:v", password: "a+b+/@"}},
    {"redis://:%FF%00@h", %{@server | password: <<255, 0>>}},
    {"unix:///run/redis.sock", %{@server | address: "/run/redis.sock"}},
    {"unix:/run/redis.sock", %{@server | address: "/run/redis.sock"}},
    {"unix:///a%20%FF", %{@server | address: <<"/a ", 255>>}},
    {"unix:///s?db=3&user=ann&pass=a+b%26%3D=",
     %{@server | address: "/s", database: 3, username: "ann", password: "a+b&=="}},
    {"unix:///s?user=&pass=", %{@server | address: "/s"}}
  ]

  test "a URL has an address, a login, a database, and says whether to use TLS" do
    for {url, server} <- @valid, do: assert({url, Url.parse(url)} == {url, {:ok, server}})
  end

  @encoding "In the user and password, percent-encode all but letters, digits and -._~ (%23 is #, " <>
              "%2F is /, %3F is ?, %40 is @, %25 is %), or use :username and :password"
  @raw "a URL with a character that must be percent-encoded. " <> @encoding
  @scheme "a string without a known scheme. Write redis://, rediss:// or unix://"
  @path "a URL in which the path is not a database number from 0 to 65535"
  @port "a URL with a port that is not from 1 to 65535"
  @tls "a URL with a query. For TLS, write rediss://, and set :verify if the certificate is not to be verified"
  @database "a URL with a query. Write the database as the path: redis://host/3"
  @query "a URL with a query. Only unix:// URLs have one. Use the options instead"
  @unix_query "a unix:// URL with an unknown query part. Allowed are db=, user= and pass=, once"
  @unix_path "a unix:// URL without an absolute path. Write three slashes: unix:///run/redis.sock"
  @no_host "a URL without a host. Write redis://host"

  @invalid [
    {"redis://:s3c#ret@h", @raw},
    {"redis://:s3c/ret@h", @raw},
    {"redis://:123/ret@h", "a URL with an @ after its host. " <> @encoding},
    {"redis://:123?ret@h", "a URL with an @ after its host. " <> @encoding},
    {"redis://s3c/ret@h", "a URL with an @ after its host. " <> @encoding},
    {"redis://:s3c?ret@h", @raw},
    {"redis://:s3c@ret@h", @raw},
    {"redis://:s3c%ret@h", @raw},
    {"redis://:s3c%zz@h", @raw},
    {"redis://:s3c ret@h", @raw},
    {"redis://:s3crét@h", @raw},
    {<<"redis://:s3cret", 255, "@h">>, @raw},
    {"redis://:s3c\0ret@h", @raw},
    {"redis://:s3c\nret@h", @raw},
    {"redis://h#insecure", @raw},
    {"redis://h#", @raw},
    {"redis://[::1", @raw},
    {"redis://h:abc", @raw},
    {"redis://h:-1", @raw},
    {"redis://h\n", "a URL with white space around it. Trim it"},
    {" redis://h", "a URL with white space around it. Trim it"},
    {"redis://h?ssl=true", @tls},
    {"redis://h/0?ssl_cert_reqs=none", @tls},
    {"redis://h?x=1&tls", @tls},
    {"redis://h?db=3", @database},
    {"redis://h?family=6", @query},
    {"redis://h/mydb", @path},
    {"redis://h/-1", @path},
    {"redis://h/65536", @path},
    {"redis://h/99999999999999999999", @path},
    {"redis://h/3/", @path},
    {"redis://h/%33", @path},
    {"redis://h:0", @port},
    {"redis://h:70000", @port},
    {"redis://h:99999999999999999999", @port},
    {"redis://", @no_host},
    {"redis:///3", @no_host},
    {"redis://:pw@", @no_host},
    {"redis:h", @no_host},
    {"redis://%68", "a URL with a percent-encoded host. Write the host as it is"},
    {"localhost", @scheme},
    {"localhost:6379", @scheme},
    {"127.0.0.1:6379", @scheme},
    {"//h", @scheme},
    {"http://h", @scheme},
    {"redis+tls://h", @scheme},
    {"unix://", @unix_path},
    {"unix:///", @unix_path},
    {"unix://run/redis.sock", @unix_path},
    {"unix://u:p@h/redis.sock", @unix_path},
    {"unix:///s?password=s3cret", @unix_query},
    {"unix:///s?db=1&db=2", @unix_query},
    {"unix:///s?db", @unix_query},
    {"unix:///s?db=",
     "a URL in which the query part db= is not a database number from 0 to 65535"},
    {"unix:///s?db=x",
     "a URL in which the query part db= is not a database number from 0 to 65535"},
    {"unix:///s%00", "a unix:// URL with a NUL byte in its path"}
  ]

  test "what is unknown or ambiguous is refused with what to write instead" do
    for {url, problem} <- @invalid do
      assert {url, Url.parse(url)} == {url, {:error, problem}}
    end
  end

  test "a URL of an option and one that a function returns are the same" do
    for {url, server} <- @valid do
      [fixed] = Endpoint.fixed(Options.validate!(url: url))
      {:ok, [computed]} = Endpoint.provider(Options.validate!(url: fn -> url end)).()
      assert fixed == computed
      assert Map.delete(fixed, :tls) == Map.delete(server, :tls)
      assert is_map(fixed.tls) == server.tls
    end

    for {url, problem} <- @invalid do
      fixed = assert_raise ArgumentError, fn -> Options.validate!(url: url) end
      {:error, reason, computed} = Endpoint.provider(Options.validate!(url: fn -> url end)).()
      assert String.ends_with?(Exception.message(fixed), ", got: " <> problem)
      assert String.ends_with?(computed, ", got: " <> problem)
      assert reason == :invalid_url
    end
  end

  test "options take precedence over the URL" do
    url = "rediss://ann:one@h/2"
    [endpoint] = Endpoint.fixed(Options.validate!(url: url, username: "bob", password: "two"))
    assert %{username: "bob", password: "two", database: 2, tls: %{verify: true}} = endpoint
    [endpoint] = Endpoint.fixed(Options.validate!(url: url, database: 0, tls: false))
    assert %{username: "ann", password: "one", database: 0, tls: nil} = endpoint
    [endpoint] = Endpoint.fixed(Options.validate!(url: "redis://h", tls: true))
    assert %{tls: %{verify: true, cacertfile: nil}} = endpoint
  end

  test "any encoded user and password come back" do
    for _ <- 1..Cases.count(2_000) do
      [username, password] = for _ <- 1..2, do: :crypto.strong_rand_bytes(:rand.uniform(20))

      [user, pass] =
        Enum.map([username, password], &URI.encode(&1, fn c -> URI.char_unreserved?(c) end))

      for url <- ["redis://#{user}:#{pass}@h:1/2", "unix:///s?db=2&user=#{user}&pass=#{pass}"] do
        assert {:ok, %{username: ^username, password: ^password, database: 2}} = Url.parse(url)
      end
    end
  end

  # Passwords with raw characters that URLs give a meaning to.
  test "any other string is a URL, or has a problem that does not show it" do
    separators = [
      "#",
      "/",
      "?",
      "@",
      "%",
      ":",
      " ",
      "[",
      "]",
      "&",
      "=",
      "\\",
      "0",
      <<255>>,
      <<0>>,
      "é"
    ]

    for _ <- 1..Cases.count(5_000) do
      pieces = for _ <- 1..3, do: for(_ <- 1..4, into: "", do: <<Enum.random(?A..?Z)>>)
      raw = Enum.map_join(pieces, &(&1 <> Enum.random(separators)))

      url =
        Enum.random([
          "redis://:#{raw}@h/0",
          "redis://u:#{raw}@h:1",
          "#{raw}://h",
          "unix:///s?pass=#{raw}",
          "redis://h/#{raw}",
          raw
        ])

      with {:error, problem} <- Url.parse(url) do
        for piece <- pieces, do: refute(problem =~ piece, inspect(url))
      end
    end
  end
end
