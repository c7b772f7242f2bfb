defmodule PowRedisCache.ClientCertificatesTest do
  # The server requires a client certificate.
  use PowRedisCache.TlsCase, async: true

  @moduletag :integration
  @moduletag client_certificate: true

  describe "a client certificate" do
    test "is sent to a server that requires it", %{url: url, ca: ca} do
      config =
        start(
          url: url,
          cacertfile: ca,
          certfile: Certificates.path(:client),
          keyfile: Certificates.key(:client)
        )

      assert PowRedisCache.put(config, {"key", 1}) == :ok
      assert PowRedisCache.get(config, "key") == 1
    end

    test "is read again at each connect", %{url: url, ca: ca, server: server} do
      files = [
        certfile: Path.join(server.folder, "a.pem"),
        keyfile: Path.join(server.folder, "a.key")
      ]

      replace = fn certificate, key ->
        File.cp!(Certificates.path(certificate), files[:certfile])
        File.cp!(Certificates.key(key), files[:keyfile])
        client = RedisClient.connect!(server.port)
        RedisClient.command!(client, ["CLIENT", "KILL", "TYPE", "normal"])
        RedisClient.close(client)
      end

      code = fn config ->
        case PowRedisCache.ping(config[:name]) do
          :ok -> :ok
          {:error, error} -> error.code
        end
      end

      replace.(:client, :client)
      config = start([url: url, cacertfile: ca] ++ files)
      assert code.(config) == :ok

      # Of an authority that Redis does not trust, then a pair of which only one half is new.
      for {certificate, key, expected} <- [
            {:other_ca, :other_ca, "client_certificate_rejected"},
            {:client, :client, :ok},
            {:server, :client, "key_mismatch"},
            {:server, :server, :ok}
          ] do
        replace.(certificate, key)
        Wait.until(fn -> code.(config) == expected end)
      end
    end

    test "that is missing returns an error", %{url: url, ca: ca} do
      # If Redis resets the connection before its alert is read, calls are retried.
      assert_problem(
        [url: url, cacertfile: ca],
        "client_certificate_required",
        "Redis requires a client certificate. Set `:certfile` and `:keyfile`, or " <>
          "`tls-auth-clients no` in the server's configuration"
      )
    end

    test "of an unknown authority returns an error", %{url: url, ca: ca} do
      assert_problem(
        [
          url: url,
          cacertfile: ca,
          certfile: Certificates.path(:other_ca),
          keyfile: Certificates.key(:other_ca)
        ],
        "client_certificate_rejected",
        "Redis rejected the client certificate. Set `:certfile` to one that its authority " <>
          "(`tls-ca-cert-file`) has signed and that has not expired"
      )
    end
  end
end
