defmodule PowRedisCache.OptionsTest do
  use ExUnit.Case, async: true

  alias PowRedisCache.Options

  @index "expected :index to be :sessions, true, false or a list of patterns like [:_, :user, :_, :session, :_]"
  @wrong [
    {[url: 6379],
     "expected :url to be a URL like \"redis://:password@localhost:6379/0\" or \"unix:///run/redis.sock\", or a function, got: an integer"},
    {[url: "localhost"],
     "expected :url to be a URL like \"redis://:password@localhost:6379/0\" or \"unix:///run/redis.sock\", or a function, got: a string without a known scheme. Write redis://, rediss:// or unix://"},
    {[url: "http://u:s3cret@host"],
     "expected :url to be a URL like \"redis://:password@localhost:6379/0\" or \"unix:///run/redis.sock\", or a function, got: a string without a known scheme. Write redis://, rediss:// or unix://"},
    {[sentinel: "s"],
     "expected :sentinel to be a keyword list with :sentinels and :group, got: a string"},
    {[sentinel: []],
     "expected :sentinels of :sentinel to be a list of URLs like \"redis://localhost:6379\", got: nil"},
    {[sentinel: [sentinels: ["redis://h"]]],
     "expected :group of :sentinel to be a string, got: nil"},
    {[sentinel: [sentinels: ["redis://h"], groups: "g"]],
     "unknown option :groups of :sentinel, expected one of: :sentinels, :group, :username, :password, :tls, :verify, :server_name, :tls_versions, :cacertfile, :certfile, :keyfile"},
    {[sentinel: [sentinels: ["redis://h"], group: <<255>>]],
     "expected :group of :sentinel to be a string, got: a string that is not UTF-8"},
    {[cluster: ["unix:///s"]],
     "expected :cluster to be a list of URLs like \"redis://localhost:6379\", got: a list in which element 1 is a unix:// URL"},
    {[cluster: ["redis://h", :s3cret]],
     "expected :cluster to be a list of URLs like \"redis://localhost:6379\", got: a list in which element 2 is an atom"},
    {[cluster: ["redis://h:0"]],
     "expected :cluster to be a list of URLs like \"redis://localhost:6379\", got: a list in which element 1 is a URL with a port that is not from 1 to 65535"},
    {[cluster: []],
     "expected :cluster to be a list of URLs like \"redis://localhost:6379\", got: an empty list"},
    {[cluster: ["redis://h" | "s3cret"]],
     "expected :cluster to be a list of URLs like \"redis://localhost:6379\", got: an improper list"},
    {[cluster: ["redis://h"], url: "redis://h"],
     "expected one of :url, :sentinel and :cluster, got: [:url, :cluster]"},
    {[username: 1], "expected :username to be a string or a function, got: an integer"},
    {[password: :s3cret], "expected :password to be a string or a function, got: an atom"},
    {[password: ~c"s3cret"], "expected :password to be a string or a function, got: a charlist"},
    {[password: ""], "expected :password to be a string or a function, got: an empty string"},
    {[password: &String.upcase/1],
     "expected :password to be a string or a function, got: a function of arity 1"},
    {[password: {String, ["s3cret"]}],
     "expected :password to be a string or a function, got: a tuple with 2 elements"},
    {[database: -1], "expected :database to be a database number, got: -1"},
    {[tls: 1], "expected :tls to be true or false or nil, got: 1"},
    {[verify: false], "expected :verify to be :verify_peer or :verify_none, got: false"},
    {[server_name: :host],
     "expected :server_name to be a host name or an IP address, got: an atom"},
    {[server_name: "https://host"],
     "expected :server_name to be a host name or an IP address, got: a string that is neither"},
    {[sentinel: [sentinels: ["redis://h"], group: "g", server_name: ""]],
     "expected :server_name of :sentinel to be a host name or an IP address, got: an empty string"},
    {[tls_versions: :"tlsv1.3"],
     "expected :tls_versions to be a list with :\"tlsv1.2\", :\"tlsv1.3\" or both, got: an atom"},
    {[tls_versions: []],
     "expected :tls_versions to be a list with :\"tlsv1.2\", :\"tlsv1.3\" or both, got: an empty list"},
    {[tls_versions: [:"tlsv1.3", :"tlsv1.1"]],
     "expected :tls_versions to be a list with :\"tlsv1.2\", :\"tlsv1.3\" or both, got: a list in which element 2 is none of them"},
    {[cacertfile: 1], "expected :cacertfile to be a file path, got: an integer"},
    {[cacertfile: "s3cret\0"],
     "expected :cacertfile to be a file path, got: a string with a NUL byte"},
    {[certfile: "a.pem"], "expected :certfile and :keyfile together, got only one of them"},
    {[keyfile: "a.pem"], "expected :certfile and :keyfile together, got only one of them"},
    {[on_error: :ignore], "expected :on_error to be :raise or :miss, got: :ignore"},
    {[name: "x"], "expected :name to be an atom, got: a string"},
    {[pool_size: "4"], "expected :pool_size to be a positive integer, got: a string"},
    {[max_queue: 0], "expected :max_queue to be a positive integer, got: 0"},
    {[max_queue_bytes: 0], "expected :max_queue_bytes to be a positive integer, got: 0"},
    {[timeout: :infinity], "expected :timeout to be a positive integer, got: :infinity"},
    {[connect_timeout: -1], "expected :connect_timeout to be a positive integer, got: -1"},
    {[index: nil], "#{@index}, got: nil"},
    {[index: :all], "#{@index}, got: an atom"},
    {[index: [:_, :user]], "#{@index}, got: a list in which element 1 is an atom"},
    {[index: []], "#{@index}, got: an empty list"},
    {[index: [[:_], [:_, :user]]],
     "#{@index}, got: a list in which element 2 is a list that does not end with :_"},
    {[index: [[]]], "#{@index}, got: a list in which element 1 is an empty list"},
    {[index: [[:"$1", :_]]],
     "#{@index}, got: a list in which element 1 is a list with the variable :\"$1\""},
    {[index: [[{:user, :_}, :_]]],
     "#{@index}, got: a list in which element 1 is a list with a tuple with 2 elements instead of an atom, a string or a number"},
    {[index: [List.duplicate(:_, 65)]],
     "#{@index}, got: a list in which element 1 is a list of more than 64 parts"},
    {[writes: :later], "expected :writes to be :sync or :async, got: :later"},
    {[decode: true], "expected :decode to be :checked or :safe, got: true"},
    {[seal: "s3cret"],
     "expected :keys of :seal to be keys as mix pow_redis_cache.gen.key prints them, a list of {id, key}, or a function, got: key 1 without an id: write id:key"},
    {[seal: []],
     "expected :keys of :seal to be keys as mix pow_redis_cache.gen.key prints them, a list of {id, key}, or a function, got: nil"},
    {[seal: [keys: &__MODULE__.keys/0, write: :sealed]],
     "expected :write of :seal to be :seal or :plain, got: :sealed"},
    {[seal: [keys: &__MODULE__.keys/0, plain: false]],
     "expected :plain of :seal to be :accept or :refuse, got: false"},
    {[seal: [key: &__MODULE__.keys/0]],
     "unknown option :key of :seal, expected one of: :keys, :write, :plain"},
    {[seal: [keys: &__MODULE__.keys/0, write: :plain, plain: :refuse]],
     "expected :plain of :seal to be :accept with write: :plain, got: :refuse, which would ignore what it writes"},
    {[default_ttl: 0],
     "expected :default_ttl to be a positive integer (milliseconds), :infinity or nil, got: 0"},
    {[pool: 4],
     "unknown option :pool, expected one of: :url, :sentinel, :cluster, :username, :password, :database, :tls, :verify, :server_name, :tls_versions, :cacertfile, :certfile, :keyfile, :name, :pool_size, :max_queue, :max_queue_bytes, :timeout, :connect_timeout, :index, :writes, :on_error, :decode, :seal, :default_ttl"},
    {[:url], "expected the options to be a keyword list, got: a list"}
  ]

  def keys, do: raise("not called")

  test "an invalid option raises with the expected value" do
    for {options, message} <- @wrong do
      assert_raise ArgumentError, message, fn -> PowRedisCache.start_link(options) end
      assert_raise ArgumentError, message, fn -> PowRedisCache.child_spec(options) end
    end
  end

  test "each option has an invalid value above" do
    tried =
      for {options, _message} <- @wrong, Keyword.keyword?(options), {name, _} <- options, do: name

    assert Map.keys(Options.validate!([])) -- tried == []
  end

  test "options have defaults" do
    assert Options.validate!([]) == %{
             url: "redis://localhost:6379",
             sentinel: nil,
             cluster: nil,
             username: nil,
             password: nil,
             database: nil,
             tls: nil,
             verify: :verify_peer,
             server_name: nil,
             tls_versions: [:"tlsv1.2", :"tlsv1.3"],
             cacertfile: nil,
             certfile: nil,
             keyfile: nil,
             on_error: :raise,
             name: PowRedisCache,
             pool_size: 2,
             max_queue: 10_000,
             max_queue_bytes: 67_108_864,
             timeout: 5_000,
             connect_timeout: 5_000,
             index: :sessions,
             writes: :sync,
             decode: :checked,
             seal: nil,
             default_ttl: nil
           }
  end

  test "a server name is a host name or an IP address" do
    label = String.duplicate("a", 63)

    for name <-
          ["localhost", "Redis-1.example.com", "_redis.a_b", "9.example", label] ++
            ["127.0.0.1", "::1", Enum.join([label, label, label, "a.b"], ".")] do
      assert %{server_name: ^name} = Options.validate!(server_name: name)
    end

    for name <-
          [
            "a b",
            "-a",
            "a-",
            "a..b",
            "a.",
            ".a",
            "host:6379",
            "*.example",
            "1.2.3",
            "9",
            "a.0x7f"
          ] ++
            ["[::1]", "fe80::1%eth0", "a\n", "\0", "ö.example", <<255>>, label <> "a"] ++
            [Enum.join([label, label, label, label], ".")] do
      assert_raise ArgumentError, ~r/^expected :server_name/, fn ->
        Options.validate!(server_name: name)
      end
    end
  end

  test "every option is documented" do
    docs = Options.docs()
    for name <- Map.keys(Options.validate!([])), do: assert(docs =~ "* `#{inspect(name)}` - ")
  end

  test "a child has one second more than :timeout to shut down" do
    assert %{id: PowRedisCache, shutdown: 3_000} = PowRedisCache.child_spec(timeout: 2_000)
  end

  test "accepts URLs with credentials, a database and a socket" do
    for url <- [
          "redis://h",
          "redis://:p@h:1/2",
          "rediss://u:p%40@[::1]:6379",
          "unix:///run/redis.sock?db=1"
        ] do
      assert %{url: ^url} = Options.validate!(url: url)
    end
  end

  test "accepts functions for URL, username and password" do
    for function <- [fn -> "redis://h" end, {System, :get_env, ["REDIS_URL"]}],
        name <- [:url, :username, :password] do
      assert %{^name => ^function} = Options.validate!([{name, function}])
    end
  end
end
