defmodule PowRedisCache.ErrorTest do
  use ExUnit.Case, async: true

  alias PowRedisCache.Error

  # Reason and details from the native library; reason of the error; message.
  @messages [
    {{:busy, %{}}, :busy,
     "get failed: the queue is full. Redis is slower than the app asks; see `:max_queue` and `:pool_size`"},
    {{:timeout, %{}}, :timeout,
     "get failed: no answer from Redis within `:timeout`. Is the server overloaded, or the network slow?"},
    {{:disconnected, %{}}, :disconnected,
     "get failed: Redis cannot be reached. Check that it runs and that `:url` is right"},
    {{:closed, %{}}, :closed, "get failed: the instance is stopping"},
    {{:server, %{code: "OOM"}}, :out_of_memory,
     "get failed: Redis is out of memory (OOM). Raise its `maxmemory`"},
    {{:server, %{code: "READONLY"}}, :read_only,
     "get failed: the server is a replica and takes no writes (READONLY). Let `:url` name the master"},
    {{:server, %{code: "NOAUTH"}}, :unauthenticated,
     "get failed: Redis refused user or password (NOAUTH). Check those in `:url`"},
    {{:server, %{code: "WRONGPASS"}}, :unauthenticated,
     "get failed: Redis refused user or password (WRONGPASS). Check those in `:url`"},
    {{:server, %{code: "NOPERM"}}, :not_permitted,
     "get failed: the Redis user lacks a permission (NOPERM). It needs the keys and the commands DEL, EXISTS, GET, PEXPIRE, PING, PTTL, RENAMENX, SCAN, SET, TIME, ZADD, ZREM, ZREMRANGEBYSCORE, ZSCAN and ZSCORE"},
    {{:server, %{code: "WRONGTYPE"}}, :wrong_type,
     "get failed: something that is no session lies at the key or index set (WRONGTYPE). Use a database of its own"},
    {{:server, %{code: "ERR"}}, :server, "get failed: Redis answered with the error ERR"},
    {{:tls, %{code: :unknown_ca}}, :tls,
     "get failed: nobody whom we trust has signed Redis's certificate. Name its authority with `:cacertfile`, or take any certificate with `verify: :verify_none`"},
    {{:tls, %{code: :expired}}, :tls,
     "get failed: Redis's certificate has expired or is not valid yet. Renew it, or take any with `verify: :verify_none`"},
    {{:tls, %{code: :wrong_host}}, :tls,
     "get failed: Redis's certificate is another host's. Let `:url` name the host as the certificate does, or take any with `verify: :verify_none`"},
    {{:tls, %{code: :certificate_file}}, :tls,
     "get failed: the file of `:cacertfile`, `:certfile` or `:keyfile` can't be read as PEM"},
    {{:tls, %{code: :handshake}}, :tls,
     "get failed: the TLS handshake failed. Does the port of `:url` speak TLS, and does the server ask for a certificate (`:certfile`, `:keyfile`)?"},
    {{:no_primary, %{}}, :no_primary,
     "get failed: the sentinels know no master of the group. Check `:sentinels` and `:group`"},
    {{:endpoint_unavailable, %{}}, :endpoint_unavailable,
     "get failed: the function for `:url`, `:username` or `:password` failed or answered with no string"},
    {{:invalid_url, %{}}, :invalid_url,
     "get failed: `:url` is not the URL of a Redis server. Expected one like `redis://localhost:6379/0`"},
    {{:cluster_unsupported, %{}}, :cluster_unsupported,
     "get failed: keys of a cluster can't be renamed across slots. Run it on a server alone"},
    {{:protocol, %{}}, :protocol,
     "get failed: what came back is not what Redis answers. Does `:url` name a Redis server?"},
    {{:worker_panicked, %{}}, :worker_panicked,
     "get failed: a worker thread panicked; it goes on. Please report this, with what the VM wrote to stderr"}
  ]

  test "each reason has a message that says what to do" do
    for {native, reason, message} <- @messages do
      error = Error.from_native(:get, native)
      assert %Error{reason: ^reason, operation: :get} = error
      assert Exception.message(error) == message
    end
  end

  test "every documented reason is tested" do
    {:docs_v1, _, _, _, %{"en" => docs}, _, _} = Code.fetch_docs(Error)

    documented =
      for [_, reason] <- Regex.scan(~r/\* `:(\w+)` - /, docs), do: String.to_atom(reason)

    # These come from the Elixir side alone, and are tested where they do.
    assert Enum.sort(documented) ==
             Enum.sort([
               :not_started,
               :nif_not_loaded | Enum.uniq(Enum.map(@messages, &elem(&1, 1)))
             ])
  end
end
