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
    {{:connection_lost, %{}}, :connection_lost,
     "get failed: two connections in a row were lost while the call was under way. Does the server close the connection when it receives a value of this size? Check its limits and those of any proxy"},
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
     "get failed: the Redis user lacks a permission (NOPERM). Grant it access to the keys and to the commands DEL, GET, PEXPIRE, PING, PTTL, RENAMENX, SCAN, SET, TIME, ZADD, ZREM, ZREMRANGEBYSCORE, ZSCAN and ZSCORE. A database other than 0 needs SELECT as well. Reseal needs EVAL as well"},
    {{:server, %{code: "WRONGTYPE"}}, :wrong_type,
     "get failed: the key or index set holds a value of another type (WRONGTYPE). Use a separate database for sessions"},
    {{:server, %{code: "ERR"}}, :server, "get failed: Redis returned an error (ERR)"},
    {{:tls, %{code: :unknown_ca}}, :tls,
     "get failed: the certificate is signed by an unknown authority. Set `:cacertfile` to the authority's certificate, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :no_authorities}}, :tls,
     "get failed: this host has no certificate authorities. Install its package of them (`ca-certificates`), or set `:cacertfile`"},
    {{:tls, %{code: :ca_certificate}}, :tls,
     "get failed: Redis presents the certificate of an authority as its own. Issue a certificate for Redis that is none of an authority (`CA:FALSE`), or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :expired}}, :tls,
     "get failed: the certificate has expired. Renew it, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :not_yet_valid}}, :tls,
     "get failed: the certificate is not valid yet. Check the clock of this host, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :wrong_host}}, :tls,
     "get failed: the certificate does not match the host name. Use the certificate's host name in `:url` or `:server_name`, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :no_names}}, :tls,
     "get failed: the certificate names no host: it has no `subjectAltName`. Issue one with the host name of Redis as its `subjectAltName`, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :invalid_host}}, :tls,
     "get failed: the host name cannot stand in a certificate. Use another one in `:url`, or set `:server_name` to that of the certificate"},
    {{:tls, %{code: :old_certificate}}, :tls,
     "get failed: the certificate has X.509 version 1. Issue one of version 3, with the host name of Redis as its `subjectAltName`, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :wrong_purpose}}, :tls,
     "get failed: the certificate is not for servers. Issue one with `serverAuth` in its `extendedKeyUsage`, or disable verification with `verify: :verify_none`"},
    {{:tls, %{code: :bad_certificate}}, :tls,
     "get failed: the certificate is damaged or uses an algorithm that is not supported. Issue another one, or disable verification with `verify: :verify_none`"},
    {{:tls,
      %{code: :certificate_file, file: "/etc/x.pem", option: :cacertfile, problem: :missing}},
     :tls,
     "get failed: the file /etc/x.pem (`:cacertfile`) does not exist. Correct `:cacertfile`"},
    {{:tls,
      %{code: :certificate_file, file: "/etc/x.pem", option: :certfile, problem: :unreadable}},
     :tls,
     "get failed: the file /etc/x.pem (`:certfile`) cannot be read. Check its permissions, or correct `:certfile`"},
    {{:tls, %{code: :certificate_file, file: "/etc/x.pem", option: :certfile, problem: :invalid}},
     :tls,
     "get failed: the file /etc/x.pem (`:certfile`) contains no certificate in PEM format. Correct `:certfile`"},
    {{:tls, %{code: :certificate_file, file: "/etc/x.pem", option: :keyfile, problem: :invalid}},
     :tls,
     "get failed: the file /etc/x.pem (`:keyfile`) contains no private key in PEM format. Correct `:keyfile`"},
    {{:tls, %{code: :encrypted_key, file: "/etc/x.key"}}, :tls,
     "get failed: the file /etc/x.key (`:keyfile`) has a passphrase. Remove it with `openssl pkey`, and set `:keyfile` to the result"},
    {{:tls, %{code: :key_mismatch, file: "/etc/x.key"}}, :tls,
     "get failed: the file /etc/x.key (`:keyfile`) is not the key of the certificate. Set `:certfile` and `:keyfile` to a pair"},
    {{:tls, %{code: :not_tls}}, :tls,
     "get failed: the server does not use TLS at this port. Use `redis://` or `tls: false`, or correct the port in `:url`"},
    {{:tls, %{code: :tls_required}}, :tls,
     "get failed: the server uses TLS at this port. Use `rediss://` or `tls: true`, or correct the port in `:url`"},
    {{:tls, %{code: :no_common_version}}, :tls,
     "get failed: Redis supports no version and cipher suite of TLS that this package offers. Enable TLS 1.2 or 1.3 (`tls-protocols`, `tls-ciphers`), or correct `:tls_versions`"},
    {{:tls, %{code: :client_certificate_required}}, :tls,
     "get failed: Redis requires a client certificate. Set `:certfile` and `:keyfile`, or `tls-auth-clients no` in the server's configuration"},
    {{:tls, %{code: :client_certificate_rejected}}, :tls,
     "get failed: Redis rejected the client certificate. Set `:certfile` to one that its authority (`tls-ca-cert-file`) has signed and that has not expired"},
    {{:tls, %{code: :handshake}}, :tls,
     "get failed: the TLS handshake failed. Does the port in `:url` use TLS, and does the server require a client certificate (`:certfile`, `:keyfile`)?"},
    {{:server, %{code: "OOM", reply: "OOM command not allowed"}}, :out_of_memory,
     "get failed: Redis is out of memory (OOM). Raise its `maxmemory`. Redis said: \"OOM command not allowed\""},
    {{:server, %{code: "ERR", reply: "ERR invalid password"}}, :unauthenticated,
     "get failed: Redis rejected the username or password (ERR). Check the credentials in `:url`, `:username` and `:password`. Redis said: \"ERR invalid password\""},
    {{:server, %{code: "ERR", reply: "ERR Protocol error: unauthenticated bulk length"}},
     :unauthenticated,
     "get failed: Redis rejected the username or password (ERR). Check the credentials in `:url`, `:username` and `:password`. Redis said: \"ERR Protocol error: unauthenticated bulk length\""},
    {{:server,
      %{
        code: "ERR",
        reply: "ERR AUTH <password> called without any password configured for the default user."
      }}, :server,
     "get failed: the server has no password, but one was sent. Remove the password from `:url` and `:password`. Redis said: \"ERR AUTH <password> called without any password configured for the default user.\""},
    {{:server, %{code: "ERR", reply: "ERR DB index is out of range"}}, :server,
     "get failed: the server has no such database. Set the database in `:url` or `:database` to one that exists (`databases` in the server's configuration). Redis said: \"ERR DB index is out of range\""},
    {{:server, %{code: "ERR", reply: "ERR SELECT is not allowed in cluster mode"}}, :server,
     "get failed: a cluster has only database 0. Remove the database from `:url` and `:database`. Redis said: \"ERR SELECT is not allowed in cluster mode\""},
    {{:server, %{code: "ERR", reply: "ERR max number of clients reached"}}, :server,
     "get failed: Redis has as many clients as it accepts. Raise its `maxclients`, or lower `:pool_size`. Redis said: \"ERR max number of clients reached\""},
    {{:server, %{code: "ERR", reply: "ERR This instance has cluster support disabled"}}, :server,
     "get failed: the server is not a node of a cluster. Use `:url` instead of `:cluster`. Redis said: \"ERR This instance has cluster support disabled\""},
    {{:server,
      %{code: "ERR", reply: "ERR unknown command 'PEXPIRE', with args beginning with: ..."}},
     :server,
     "get failed: the server does not know the command PEXPIRE. Remove it from `rename-command` in the server's configuration, or use Redis 7.0 or later, or Valkey. Redis said: \"ERR unknown command 'PEXPIRE', with args beginning with: ...\""},
    {{:server, %{code: "ERR", reply: "ERR unknown command ..."}}, :server,
     "get failed: the server does not know a command. Remove it from `rename-command` in the server's configuration, or use Redis 7.0 or later, or Valkey. Redis said: \"ERR unknown command ...\""},
    {{:server, %{code: "ERR", reply: "ERR Protocol error: invalid bulk length"}}, :server,
     "get failed: the value is larger than Redis accepts. Store less in the session, or raise its `proto-max-bulk-len`. Redis said: \"ERR Protocol error: invalid bulk length\""},
    {{:server, %{code: "ERR", reply: "upstream failure"}}, :server,
     "get failed: Redis returned an error (ERR). Redis said: \"upstream failure\""},
    {{:server, %{code: "DENIED", reply: "DENIED Redis is running in protected mode"}}, :server,
     "get failed: Redis is in protected mode: it accepts connections from its own host only (DENIED). Set a password for it (`requirepass`), or `protected-mode no` if its network is private. Redis said: \"DENIED Redis is running in protected mode\""},
    {{:server, %{code: "MISCONF", reply: "MISCONF Errors writing to the AOF file"}}, :server,
     "get failed: Redis cannot write to its disk, and refuses writes (MISCONF). Check the space on the disk, the permissions of the folder, and the log of Redis. Redis said: \"MISCONF Errors writing to the AOF file\""},
    {{:server, %{code: "NOREPLICAS", reply: "NOREPLICAS Not enough good replicas to write."}},
     :server,
     "get failed: Redis has too few replicas, and refuses writes (NOREPLICAS). Start the replicas, or lower `min-replicas-to-write`. Redis said: \"NOREPLICAS Not enough good replicas to write.\""},
    {{:server, %{code: "BUSY", reply: "BUSY Redis is busy running a script."}}, :server,
     "get failed: Redis is busy running a script (BUSY). Wait until it ends, or end it with `SCRIPT KILL`. Redis said: \"BUSY Redis is busy running a script.\""},
    {{:server, %{code: "LOADING", reply: "LOADING Redis is loading the dataset in memory"}},
     :server,
     "get failed: Redis is loading its data (LOADING). Wait until it has finished. Redis said: \"LOADING Redis is loading the dataset in memory\""},
    {{:server, %{code: "MASTERDOWN", reply: "MASTERDOWN Link with MASTER is down"}}, :server,
     "get failed: the server is a replica without a connection to its primary (MASTERDOWN). Point `:url` at the primary. Redis said: \"MASTERDOWN Link with MASTER is down\""},
    {{:server, %{code: "CLUSTERDOWN", reply: "CLUSTERDOWN The cluster is down"}}, :server,
     "get failed: some slots of the cluster have no primary (CLUSTERDOWN). Check that its nodes are running, with `CLUSTER INFO`. Redis said: \"CLUSTERDOWN The cluster is down\""},
    {{:server,
      %{code: "TRYAGAIN", reply: "TRYAGAIN Multiple keys request during rehashing of slot"}},
     :server,
     "get failed: slots of the cluster are being moved (TRYAGAIN). Wait until that has finished. Redis said: \"TRYAGAIN Multiple keys request during rehashing of slot\""},
    {{:server, %{code: "MOVED", reply: "MOVED 1 10.0.0.1:6379"}}, :server,
     "get failed: the server is a node of a cluster (MOVED). Use `:cluster` instead of `:url`. Redis said: \"MOVED 1 10.0.0.1:6379\""},
    {{:server, %{code: "NOPROTO", reply: "NOPROTO unsupported protocol version"}}, :server,
     "get failed: the server does not support the version of the protocol (NOPROTO). Use Redis 7.0 or later, or Valkey. Redis said: \"NOPROTO unsupported protocol version\""},
    {{:disconnected, %{address: "h:1", announced: false, cause: :refused}}, :disconnected,
     "get failed: Redis is unreachable. h:1 refused the connection: check that it is running and that `:url` is correct"},
    {{:disconnected, %{address: "h:1", announced: false, cause: :no_route}}, :disconnected,
     "get failed: Redis is unreachable. There is no route to h:1: check that it is running and that `:url` is correct"},
    {{:disconnected, %{address: "h:1", announced: false, cause: :unknown_host}}, :disconnected,
     "get failed: Redis is unreachable. The host name of h:1 has no address: correct the host in `:url`"},
    {{:disconnected, %{address: "h:1", announced: false, cause: :not_permitted}}, :disconnected,
     "get failed: Redis is unreachable. This process may not connect to h:1: check the permissions of the socket in `:url`, or the firewall of this host"},
    {{:disconnected, %{address: "h:1", announced: false, cause: :no_such_socket}}, :disconnected,
     "get failed: Redis is unreachable. h:1 does not exist: check that it is running and that `:url` is correct"},
    {{:disconnected, %{address: "h:1", announced: false, cause: :connection_closed}},
     :disconnected,
     "get failed: Redis is unreachable. h:1 closed the connection: check whether the port in `:url` uses TLS (`rediss://`), and the log of Redis"},
    {{:disconnected, %{address: "h:1", announced: false, cause: nil}}, :disconnected,
     "get failed: Redis is unreachable. h:1 does not answer: check that it is running and that `:url` is correct"},
    {{:timeout, %{address: "h:1", announced: false}}, :timeout,
     "get failed: no reply from h:1 within `:connect_timeout`. Check that it is running and that `:url` is correct"},
    {{:protocol, %{address: "h:1", announced: false}}, :protocol,
     "get failed: unexpected reply from h:1: not a Redis server? Check `:url`"},
    {{:no_primary, %{}}, :no_primary,
     "get failed: the sentinels report no primary for the group. Check `:sentinels` and `:group`"},
    {{:endpoint_unavailable, %{}}, :endpoint_unavailable,
     "get failed: the function for `:url`, `:username` or `:password` failed or did not return a string. See the log for its exception"},
    {{:invalid_url, %{}}, :invalid_url,
     "get failed: `:url` is not a valid Redis URL. Expected a URL like `redis://localhost:6379/0`"},
    {{:protocol, %{}}, :protocol,
     "get failed: unexpected reply: not a Redis server? Check `:url`"},
    {{:result_too_large, %{}}, :result_too_large,
     "get failed: the matching records take more than 512 MB. Use a pattern that matches fewer records"},
    {{:worker_panicked, %{}}, :worker_panicked,
     "get failed: a worker thread panicked and recovered. Please report this, with the panic message from stderr"}
  ]

  # Topology; reason and details from the native library; message.
  @topologies [
    {:sentinel, {:disconnected, %{address: "h:1", announced: true, cause: :refused}},
     "get failed: Redis is unreachable. h:1 refused the connection: check that this host can reach the address that the sentinels report. If it cannot, set `replica-announce-ip` of Redis and `sentinel announce-ip` to addresses that it can reach"},
    {:sentinel, {:disconnected, %{address: "h:1", announced: false, cause: :refused}},
     "get failed: Redis is unreachable. h:1 refused the connection: check that it is running and that `:sentinel` is correct"},
    {:cluster, {:disconnected, %{address: "h:1", announced: true, cause: :refused}},
     "get failed: Redis is unreachable. h:1 refused the connection: check that this host can reach the address that the cluster announces. If it cannot, set `cluster-announce-ip` or `cluster-announce-hostname` of the node"},
    {:cluster, {:disconnected, %{address: "h:1", announced: false, cause: :refused}},
     "get failed: Redis is unreachable. h:1 refused the connection: check that it is running and that `:cluster` is correct"},
    {:sentinel, {:disconnected, %{}},
     "get failed: Redis is unreachable. Check that the primary and the sentinels are running"},
    {:cluster, {:disconnected, %{}},
     "get failed: Redis is unreachable. Check that the nodes of the cluster are running"},
    {:sentinel, {:timeout, %{address: "h:1", announced: true}},
     "get failed: no reply from h:1 within `:connect_timeout`. Check that this host can reach the address that the sentinels report. If it cannot, set `replica-announce-ip` of Redis and `sentinel announce-ip` to addresses that it can reach"},
    {:sentinel, {:server, %{code: "READONLY"}},
     "get failed: the server is a read-only replica (READONLY). Wait until the failover has finished. If it does not, check the logs of the sentinels"},
    {:cluster, {:server, %{code: "READONLY"}},
     "get failed: the server is a read-only replica (READONLY). Wait until the failover has finished. If it does not, check `CLUSTER NODES`"},
    {:sentinel, {:server, %{code: "WRONGPASS", address: "h:1", announced: false}},
     "get failed: Redis rejected the username or password (WRONGPASS). Check the credentials in `:sentinel`: they are those of the sentinels"},
    {:sentinel, {:server, %{code: "WRONGPASS", address: "h:1", announced: true}},
     "get failed: Redis rejected the username or password (WRONGPASS). Check the credentials in `:username` and `:password`"},
    {:cluster, {:server, %{code: "WRONGPASS"}},
     "get failed: Redis rejected the username or password (WRONGPASS). Check the credentials in `:cluster`, `:username` and `:password`"},
    {:cluster, {:server, %{code: "MOVED"}},
     "get failed: the nodes of the cluster redirect to each other (MOVED). Check `CLUSTER NODES`"},
    {:cluster,
     {:server,
      %{
        code: "ERR",
        reply: "ERR SELECT is not allowed in cluster mode",
        address: "h:1",
        announced: false
      }},
     "get failed: a cluster has only database 0. Remove the database from `:cluster` and `:database`. h:1 said: \"ERR SELECT is not allowed in cluster mode\""},
    {:sentinel, {:tls, %{code: :wrong_host}},
     "get failed: the certificate does not match the host name. Use the certificate's host name in `:sentinel` or `:server_name`, or disable verification with `verify: :verify_none`"},
    {:cluster, {:protocol, %{}},
     "get failed: unexpected reply: not a Redis server? Check `:cluster`"}
  ]

  test "the advice fits the topology" do
    for {topology, native, message} <- @topologies do
      assert Exception.message(Error.from_native(:get, native, topology)) == message
    end
  end

  test "each reason has a message with what to do" do
    for {native, reason, message} <- @messages do
      error = Error.from_native(:get, native)
      assert %Error{reason: ^reason, operation: :get} = error
      assert Exception.message(error) == message
    end
  end

  test "has the status 503 for Plug, and the same message" do
    error = Error.from_native(:get, {:timeout, %{}})
    assert error.plug_status == 503
    refute Exception.message(error) =~ "503"
    assert %Error{plug_status: 503} = %Error{reason: :not_started, operation: :get}
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
