defmodule PowRedisCache.ErrorTest do
  use ExUnit.Case, async: true

  alias PowRedisCache.Error

  # Reason and details from the native library; reason of the error; message.
  @messages [
    {{:busy, %{}}, :busy,
     "get failed: the queue is full. Redis cannot keep up with the app: see `:max_queue`, `:max_queue_bytes` and `:pool_size`"},
    {{:timeout, %{}}, :timeout,
     "get failed: no reply from Redis within `:timeout`. Is the server overloaded or the network slow?"},
    {{:disconnected, %{}}, :disconnected,
     "get failed: Redis is unreachable. Check that it is running and that `:url` is correct"},
    {{:closed, %{}}, :closed, "get failed: the instance is stopping"},
    {{:server, %{code: "OOM"}}, :out_of_memory,
     "get failed: Redis is out of memory (OOM). Raise its `maxmemory`"},
    {{:server, %{code: "READONLY"}}, :read_only,
     "get failed: the server is a read-only replica (READONLY). Point `:url` at the primary"},
    {{:server, %{code: "NOAUTH"}}, :unauthenticated,
     "get failed: Redis rejected the username or password (NOAUTH). Check the credentials in `:url`, `:username` and `:password`"},
    {{:server, %{code: "WRONGPASS"}}, :unauthenticated,
     "get failed: Redis rejected the username or password (WRONGPASS). Check the credentials in `:url`, `:username` and `:password`"},
    {{:server, %{code: "NOPERM"}}, :not_permitted,
     "get failed: the Redis user lacks a permission (NOPERM). Grant it access to the keys and to the commands DEL, EXISTS, GET, PEXPIRE, PING, PTTL, RENAMENX, SCAN, SET, TIME, ZADD, ZREM, ZREMRANGEBYSCORE, ZSCAN and ZSCORE"},
    {{:server, %{code: "WRONGTYPE"}}, :wrong_type,
     "get failed: the key or index set holds a value of another type (WRONGTYPE). Use a separate database for sessions"},
    {{:server, %{code: "ERR"}}, :server, "get failed: Redis returned an error (ERR)"},
    {{:tls, %{code: :unknown_ca}}, :tls,
     "get failed: the certificate is signed by an unknown authority. Set `:cacertfile` to the authority's certificate, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :expired}}, :tls,
     "get failed: the certificate has expired or is not valid yet. Renew it, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :wrong_host}}, :tls,
     "get failed: the certificate does not match the host name. Use the certificate's host name in `:url`, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :certificate_file}}, :tls,
     "get failed: cannot read the file of `:cacertfile`, `:certfile` or `:keyfile`. Check that it exists and is in PEM format"},
    {{:tls, %{code: :handshake}}, :tls,
     "get failed: the TLS handshake failed. Does the port in `:url` use TLS, and does the server require a client certificate (`:certfile`, `:keyfile`)?"},
    {{:no_primary, %{}}, :no_primary,
     "get failed: the sentinels report no primary for the group. Check `:sentinels` and `:group`"},
    {{:endpoint_unavailable, %{}}, :endpoint_unavailable,
     "get failed: the function for `:url`, `:username` or `:password` failed or did not return a string. See the log for its exception"},
    {{:invalid_url, %{}}, :invalid_url,
     "get failed: `:url` is not a valid Redis URL. Expected a URL like `redis://localhost:6379/0`"},
    {{:cluster_unsupported, %{}}, :cluster_unsupported,
     "get failed: not supported on a cluster: keys cannot be renamed across slots. Run it on a standalone server"},
    {{:protocol, %{}}, :protocol,
     "get failed: unexpected reply: not a Redis server? Check `:url`"},
    {{:worker_panicked, %{}}, :worker_panicked,
     "get failed: a worker thread panicked and recovered. Please report this, with the panic message from stderr"}
  ]

  test "each reason has a message with what to do" do
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

    # Elixir code raises these two; the tests of `Instance` and `Native` cover them.
    assert Enum.sort(documented) ==
             Enum.sort([
               :not_started,
               :nif_not_loaded | Enum.uniq(Enum.map(@messages, &elem(&1, 1)))
             ])
  end
end
