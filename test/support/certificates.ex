defmodule PowRedisCache.Certificates do
  @moduledoc """
  Certificates for tests. They are made once per test run, in a folder that is removed at its end.

    * `:server` is valid for `localhost` and `127.0.0.1`.
    * `:expired` is the same, but expired.
    * `:wrong_host` is valid for another host.
    * `:not_yet_valid` is the same as `:server`, but valid from tomorrow on.
    * `:no_names` names no host. `:old_certificate` has X.509 version 1.
    * `:wrong_purpose` is for clients only.
    * `:client` is a client certificate. `:encrypted` is its key with a passphrase.
    * `:ca` is the authority that signed all of the above; `:other_ca` is an unrelated one.
    * `:broken` is not a certificate.
  """

  @localhost "subjectAltName=DNS:localhost,IP:127.0.0.1"
  @other_host "subjectAltName=DNS:redis.example"

  @doc "The path of a certificate."
  def path(name), do: Path.join(folder(), "#{name}.pem")

  @doc "The path of a certificate's private key."
  def key(name), do: Path.join(folder(), "#{name}.key")

  @doc "Arguments of a Redis server that listens for TLS on a port, with one of the certificates."
  def server_arguments(port, name \\ :server, more \\ ["--tls-auth-clients", "no"]) do
    [
      "--tls-port",
      "#{port}",
      "--tls-cert-file",
      path(name),
      "--tls-key-file",
      key(name),
      "--tls-ca-cert-file",
      path(:ca)
    ] ++ more
  end

  @doc "The folder with all certificates."
  def folder do
    :global.trans({__MODULE__, self()}, fn ->
      with nil <- :persistent_term.get(__MODULE__, nil) do
        folder = make()
        :persistent_term.put(__MODULE__, folder)
        ExUnit.after_suite(fn _results -> File.rm_rf!(folder) end)
        folder
      end
    end)
  end

  defp make do
    unique = "#{System.pid()}_#{System.unique_integer([:positive])}"
    folder = Path.join(System.tmp_dir!(), "pow_redis_cache_certificates_#{unique}")
    File.mkdir_p!(folder)
    now = NaiveDateTime.utc_now()
    valid = {NaiveDateTime.add(now, -86_400), NaiveDateTime.add(now, 10 * 86_400)}
    expired = {NaiveDateTime.add(now, -10 * 86_400), NaiveDateTime.add(now, -86_400)}
    later = {NaiveDateTime.add(now, 86_400), NaiveDateTime.add(now, 10 * 86_400)}
    for ca <- ["ca", "other_ca"], do: make_authority(folder, ca)
    sign(folder, "server", @localhost, valid)
    sign(folder, "expired", @localhost, expired)
    sign(folder, "wrong_host", @other_host, valid)
    sign(folder, "client", "extendedKeyUsage=clientAuth", valid)
    sign(folder, "not_yet_valid", @localhost, later)
    sign(folder, "no_names", "extendedKeyUsage=serverAuth", valid)
    sign(folder, "wrong_purpose", @localhost <> "\nextendedKeyUsage=clientAuth", valid)
    sign_without_extensions(folder, "old_certificate")
    encrypt_key(folder, "client", "encrypted")
    File.write!(Path.join(folder, "broken.pem"), "no certificate")
    folder
  end

  defp make_authority(folder, name) do
    openssl(
      folder,
      ~w(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 10) ++
        ["-keyout", "#{name}.key", "-out", "#{name}.pem", "-subj", "/CN=#{name} of tests"] ++
        ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    )
  end

  defp request(folder, name) do
    openssl(
      folder,
      ~w(req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes) ++
        ["-keyout", "#{name}.key", "-out", "#{name}.csr", "-subj", "/CN=#{name}"]
    )
  end

  # Older versions of openssl make such a certificate by default, newer ones on request.
  defp sign_without_extensions(folder, name) do
    request(folder, name)

    {help, _status} = System.cmd("openssl", ["req", "-help"], stderr_to_stdout: true)

    # The usual configuration adds extensions, and so version 3.
    File.write!(Path.join(folder, "v1.cnf"), "[req]\ndistinguished_name = name\n[name]\n")

    command =
      if help =~ "-x509v1",
        do: ~w(req -x509 -x509v1 -config v1.cnf),
        else: ~w(x509 -req -CAcreateserial)

    openssl(
      folder,
      command ++
        ~w(-days 10 -CA ca.pem -CAkey ca.key) ++ ["-in", "#{name}.csr", "-out", "#{name}.pem"]
    )
  end

  defp encrypt_key(folder, name, encrypted) do
    openssl(
      folder,
      ~w(pkey -aes256 -passout pass:secret) ++ ["-in", "#{name}.key", "-out", "#{encrypted}.key"]
    )
  end

  defp sign(folder, name, extension, {from, to}) do
    request(folder, name)

    # Only `openssl ca` signs a certificate that has already expired.
    File.write!(Path.join(folder, "#{name}.txt"), "")

    File.write!(Path.join(folder, "#{name}.cnf"), """
    [ca]
    default_ca = own
    [own]
    database = #{name}.txt
    new_certs_dir = .
    rand_serial = yes
    default_md = sha256
    policy = any
    x509_extensions = extensions
    [any]
    commonName = supplied
    [extensions]
    basicConstraints = CA:FALSE
    authorityKeyIdentifier = keyid
    #{extension}
    """)

    openssl(
      folder,
      ~w(ca -batch -notext -cert ca.pem -keyfile ca.key) ++
        ["-config", "#{name}.cnf", "-in", "#{name}.csr", "-out", "#{name}.pem"] ++
        ["-startdate", time(from), "-enddate", time(to)]
    )
  end

  defp time(time), do: Calendar.strftime(time, "%Y%m%d%H%M%SZ")

  defp openssl(folder, arguments) do
    {output, status} = System.cmd("openssl", arguments, cd: folder, stderr_to_stdout: true)
    if status != 0, do: raise("openssl #{hd(arguments)} failed: #{output}")
  end
end
