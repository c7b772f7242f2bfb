defmodule PowRedisCache.TlsCase do
  @moduledoc """
  A case template: each test gets a Redis server that listens for TLS, its `:url`, and the file of its
  authority in `:ca`.

    * `@tag certificate: :expired` chooses the server's certificate, one of `PowRedisCache.Certificates`.
    * `@tag client_certificate: true` requires a client certificate.
    * `@tag tls_protocols: "TLSv1.2"` sets the versions of TLS.
  """

  use ExUnit.CaseTemplate

  alias PowRedisCache.{Case, Certificates, Ports, RedisServer}

  using do
    quote do
      import PowRedisCache.TlsCase
      alias PowRedisCache.{Certificates, RedisClient, Wait}
    end
  end

  setup context do
    port = Ports.free()
    clients = if context[:client_certificate], do: "yes", else: "no"

    arguments =
      Certificates.server_arguments(port, context[:certificate] || :server, [
        "--tls-auth-clients",
        clients,
        "--tls-protocols",
        context[:tls_protocols] || "TLSv1.2 TLSv1.3"
      ])

    server = RedisServer.start!(arguments)
    on_exit(fn -> RedisServer.stop(server) end)
    [server: server, port: port, url: "rediss://localhost:#{port}", ca: Certificates.path(:ca)]
  end

  @doc "Starts an instance and returns its configuration."
  def start(options) do
    name = Case.unique_name()
    start_supervised!({PowRedisCache, [name: name] ++ options}, id: name)
    [name: name, namespace: "tls", ttl: 60_000]
  end

  @doc "Asserts that a call of an instance fails with the code of a TLS problem, and with this message."
  def assert_problem(options, code, message) do
    error = catch_error(PowRedisCache.put(start(options), {"key", 1}))
    assert {error.reason, error.code} == {:tls, code}
    assert Exception.message(error) == "put failed: " <> message
  end
end
