defmodule PowRedisCache.Error.Tls do
  @moduledoc false
  # The messages of TLS problems: what happened, then what to do.

  alias PowRedisCache.Error.Connection

  @no_verification "disable verification with `verify: :verify_none`"

  @doc "The message of a problem, by its code."
  def explain("unknown_ca", _detail) do
    "the certificate is signed by an unknown authority. Set `:cacertfile` to the authority's " <>
      "certificate, or #{@no_verification}"
  end

  def explain("no_authorities", _detail) do
    "this host has no certificate authorities. Install its package of them (`ca-certificates`), or " <>
      "set `:cacertfile`"
  end

  def explain("ca_certificate", _detail) do
    "Redis presents the certificate of an authority as its own. Issue a certificate for Redis that " <>
      "is none of an authority (`CA:FALSE`), or #{@no_verification}"
  end

  def explain("expired", _detail) do
    "the certificate has expired. Renew it, or #{@no_verification}"
  end

  def explain("not_yet_valid", _detail) do
    "the certificate is not valid yet. Check the clock of this host, or #{@no_verification}"
  end

  def explain("wrong_host", detail) do
    "the certificate does not match the host name. Use the certificate's host name in " <>
      "#{Connection.option(detail)} or `:server_name`, or #{@no_verification}"
  end

  def explain("no_names", _detail) do
    "the certificate names no host: it has no `subjectAltName`. Issue one with the host name of " <>
      "Redis as its `subjectAltName`, or #{@no_verification}"
  end

  def explain("old_certificate", _detail) do
    "the certificate has X.509 version 1. Issue one of version 3, with the host name of Redis as its " <>
      "`subjectAltName`, or #{@no_verification}"
  end

  def explain("wrong_purpose", _detail) do
    "the certificate is not for servers. Issue one with `serverAuth` in its `extendedKeyUsage`, or " <>
      @no_verification
  end

  def explain("bad_certificate", _detail) do
    "the certificate is damaged or uses an algorithm that is not supported. Issue another one, or " <>
      @no_verification
  end

  def explain("invalid_host", detail) do
    "the host name cannot stand in a certificate. Use another one in #{Connection.option(detail)}, or " <>
      "set `:server_name` to that of the certificate"
  end

  def explain("certificate_file", detail) do
    option = option(detail)

    case detail do
      %{problem: :missing} ->
        "#{file(detail)} does not exist. Correct #{option}"

      %{problem: :unreadable} ->
        "#{file(detail)} cannot be read. Check its permissions, or correct #{option}"

      _ ->
        "#{file(detail)} contains no #{content(detail[:option])} in PEM format. Correct #{option}"
    end
  end

  def explain("encrypted_key", detail) do
    "#{file(Map.put(detail, :option, :keyfile))} has a passphrase. Remove it with `openssl pkey`, " <>
      "and set `:keyfile` to the result"
  end

  def explain("key_mismatch", detail) do
    "#{file(Map.put(detail, :option, :keyfile))} is not the key of the certificate. Set `:certfile` " <>
      "and `:keyfile` to a pair"
  end

  def explain("not_tls", detail) do
    "the server does not use TLS at this port. Use `redis://` or `tls: false`, or correct the port " <>
      "in #{Connection.option(detail)}"
  end

  def explain("tls_required", detail) do
    "the server uses TLS at this port. Use `rediss://` or `tls: true`, or correct the port in " <>
      Connection.option(detail)
  end

  def explain("no_common_version", _detail) do
    "Redis supports no version and cipher suite of TLS that this package offers. Enable TLS 1.2 " <>
      "or 1.3 (`tls-protocols`, `tls-ciphers`), or correct `:tls_versions`"
  end

  def explain("client_certificate_required", _detail) do
    "Redis requires a client certificate. Set `:certfile` and `:keyfile`, or `tls-auth-clients no` " <>
      "in the server's configuration"
  end

  def explain("client_certificate_rejected", _detail) do
    "Redis rejected the client certificate. Set `:certfile` to one that its authority " <>
      "(`tls-ca-cert-file`) has signed and that has not expired"
  end

  def explain(_other, detail) do
    "the TLS handshake failed. Does the port in #{Connection.option(detail)} use TLS, and does the " <>
      "server require a client certificate (`:certfile`, `:keyfile`)?"
  end

  defp file(%{file: path} = detail), do: "the file #{path} (#{option(detail)})"
  defp file(detail), do: "the file of #{option(detail)}"

  defp option(%{option: option}), do: "`#{inspect(option)}`"
  defp option(_detail), do: "`:cacertfile`, `:certfile` or `:keyfile`"

  defp content(:keyfile), do: "private key"
  defp content(_option), do: "certificate"
end
