defmodule PowRedisCache.Doctor.ConnectReport do
  @moduledoc false
  # The checks of a connect, from the endpoint to the login.

  import PowRedisCache.Doctor.Failure, only: [failure: 3]

  alias PowRedisCache.Doctor.{Certificate, Failure}
  alias PowRedisCache.Error.Connection
  alias PowRedisCache.Options

  # The TLS problems that are about the server's certificate.
  @certificate_codes [
    :unknown_ca,
    :ca_certificate,
    :expired,
    :not_yet_valid,
    :wrong_host,
    :no_names,
    :old_certificate,
    :wrong_purpose,
    :bad_certificate
  ]

  # A certificate that expires in fewer days is a warning.
  @min_days_left 14

  @doc "Returns the result of a check, or `nil` if it did not run."
  def check("endpoint", %{endpoints: {:error, reason}, options: options} = report) do
    what = %{
      standalone: "cannot resolve the address of Redis",
      sentinel: "no sentinel reports the address of the primary",
      cluster: "cannot resolve the addresses of the cluster"
    }

    case {Options.topology(options), report.unreachable} do
      {:sentinel, [_ | _] = sentinels} ->
        {:error, Enum.join([what.sentinel | causes(sentinels)], "; "),
         "Check :sentinels and :group, and that the sentinels are running."}

      {topology, _} ->
        failure(what[topology], reason, report)
    end
  end

  def check("endpoint", %{primaries: {:error, reason}} = report) do
    failure("the node does not report its slots", reason, report)
  end

  def check("endpoint", %{unreachable_primaries: [_ | _] = nodes} = report) do
    {:error, Enum.join([one_node(report) | causes(nodes)], "; "),
     sentence(Connection.advice(%{topology: :cluster, announced: true}))}
  end

  def check("endpoint", %{connect: connect} = report) do
    address = connect.address

    case {Options.topology(report.options), report} do
      {:standalone, _} ->
        {:ok, address}

      {:sentinel, %{unreachable: []}} ->
        {:ok, primary(report)}

      {:sentinel, %{unreachable: sentinels}} ->
        {:warning, Enum.join([primary(report) | causes(sentinels)], "; "),
         "Start these sentinels, or remove them from :sentinels."}

      {:cluster, %{unreachable: [_ | _] = others}} ->
        addresses = Enum.map_join(others, ", ", &elem(&1, 0))

        {:warning, one_node(report) <> "; cannot connect to #{addresses}",
         "Start these nodes, or remove them from :cluster."}

      {:cluster, _} ->
        {:ok, one_node(report)}
    end
  end

  def check("DNS", %{connect: %{resolution: nil, address: address}}) do
    {:ok, "not needed, #{address} is a Unix socket"}
  end

  def check("DNS", %{connect: %{resolution: {:ok, found}}}) do
    {:ok, "#{Enum.join(found.addresses, ", ")} in #{milliseconds(found.microseconds)}"}
  end

  def check("DNS", %{connect: %{resolution: {:error, reason}} = connect, options: options}) do
    host = String.replace(connect.address, ~r/:\d+$/, "")

    what =
      case reason do
        {:timeout, _} -> "no reply for #{host} within #{options.connect_timeout} ms"
        _ -> "cannot resolve #{host}"
      end

    {:error, what,
     address_advice(options, "Correct the host in #{option(options)}.") <>
       " `getent hosts #{host}` shows how this host resolves it."}
  end

  def check("connection", %{connect: %{connect: {:ok, took}, address: address}}) do
    {:ok, "to #{address} in #{milliseconds(took)}"}
  end

  def check("connection", %{
        connect: %{connect: {:error, {:timeout, _}}} = connect,
        options: options
      }) do
    {:error, "no reply from #{connect.address} within #{options.connect_timeout} ms",
     address_advice(
       options,
       "Allow this host to reach that port in your firewall or security group, or correct " <>
         "#{option(options)}."
     )}
  end

  def check("connection", %{
        connect: %{connect: {:error, {_reason, details}}, address: address},
        options: options
      }) do
    {:error, Connection.what(details[:cause], address),
     address_advice(
       options,
       "Start Redis there, or correct the host and port in #{option(options)}. In a container, " <>
         "localhost is the container."
     )}
  end

  def check("TLS", %{connect: %{handshake: nil}}), do: nil
  def check("TLS", %{connect: %{uses_tls: false}}), do: {:ok, "not used"}

  def check("TLS", %{connect: %{handshake: {:error, {reason, _}}}, options: options})
      when reason in [:timeout, :disconnected] do
    what = %{
      timeout: "no reply to the handshake within #{options.connect_timeout} ms",
      disconnected: "the server closed the connection during the handshake"
    }

    {:error, what[reason],
     "Check that the port in #{option(options)} uses TLS. If it does not, use `redis://` or " <>
       "`tls: false`."}
  end

  def check("TLS", %{connect: %{handshake: {:error, {:tls, %{code: code}} = reason}}} = report)
      when code in @certificate_codes do
    {:error, what, advice} = failure("rejected", reason, report)
    {:error, what <> shown(Certificate.read(report.connect.certificate)), advice}
  end

  def check("TLS", %{connect: %{handshake: {:error, reason}}} = report) do
    failure("failed", reason, report)
  end

  def check("TLS", %{connect: %{certificate: der}, options: %{verify: :verify_none}}) do
    {:warning, "not verified" <> shown(Certificate.read(der)),
     "A man-in-the-middle can impersonate Redis. Use verify: :verify_peer, with :cacertfile if your " <>
       "provider has its own certificate authority. Heroku has none."}
  end

  def check("TLS", %{connect: %{certificate: der}}) do
    certificate = Certificate.read(der)
    detail = "verified" <> shown(certificate)

    case days_left(certificate) do
      days when is_integer(days) and days < @min_days_left ->
        {:warning, detail, "Renew the certificate: it expires in #{days} days."}

      _ ->
        {:ok, detail}
    end
  end

  def check("login", %{connect: %{login: {:ok, _}, user: user}}), do: {:ok, "as #{user}"}

  def check("login", %{
        connect: %{login: {:error, reason}, database_refused: true, user: user},
        options: options
      }) do
    {:error, "username and password are correct, but SELECT of the database failed",
     select_advice(reason, user, options)}
  end

  def check("login", %{connect: %{login: {:error, {:disconnected, _}}}}) do
    {:error, "the server closed the connection",
     "Check whether the server has reached `maxclients`, and whether the port uses TLS (`rediss://`)."}
  end

  def check("login", %{connect: %{login: {:error, {:timeout, _}}}, options: options}) do
    {:error, "no reply within #{options.connect_timeout} ms",
     "Check whether the server hangs, and whether the port uses TLS (`rediss://`)."}
  end

  def check("login", %{connect: %{login: {:error, reason}, user: user}} = report) do
    # What does not look like a name may be a password or a URL, set by mistake.
    name = if user =~ ~r/\A[\w.-]{1,16}\z/, do: user, else: "the given user"
    failure("as #{name}", reason, report)
  end

  def check(_name, _report), do: nil

  @doc "Formats microseconds as milliseconds."
  def milliseconds(microseconds), do: "#{Float.round(microseconds / 1_000, 2)} ms"

  defp select_advice({:server, %{code: "NOPERM"}}, user, _options) do
    "Run on the server: `ACL SETUSER #{user} +select`, or use database 0."
  end

  defp select_advice(reason, _user, options) do
    {_cause, advice} = Failure.explain(reason, Options.topology(options))
    advice
  end

  # What to do about an address: what `advice` says, unless the sentinels named it.
  defp address_advice(options, advice) do
    case Options.topology(options) do
      :sentinel -> sentence(Connection.advice(%{topology: :sentinel, announced: true}))
      _ -> advice
    end
  end

  defp sentence(<<first::utf8, rest::binary>>), do: String.upcase(<<first::utf8>>) <> rest <> "."

  # The option that has the address.
  defp option(options) do
    String.trim(Connection.option(%{topology: Options.topology(options)}), "`")
  end

  # Why each of these servers cannot be used.
  defp causes(servers) do
    for {address, reason} <- servers do
      case reason do
        {:disconnected, details} -> Connection.what(details[:cause], address)
        {:timeout, _details} -> Connection.what(nil, address)
        {:no_primary, _details} -> "#{address} reports no primary for the group"
        _ -> "#{address}: #{elem(Failure.explain(reason, :sentinel), 0)}"
      end
    end
  end

  defp primary(%{connect: connect, options: options}) do
    "#{connect.address}, the primary of #{options.sentinel.group}"
  end

  defp one_node(%{connect: connect, primaries: primaries}) do
    cluster =
      with {:ok, count} <- primaries,
           do: " of a cluster with #{count} primaries",
           else: (_ -> "")

    "#{connect.address}, one node#{cluster}: later checks are about this node"
  end

  defp shown(nil), do: ""

  defp shown(certificate) do
    "; issued by #{certificate.issuer}, expires #{DateTime.to_date(certificate.expires)}"
  end

  defp days_left(nil), do: nil

  defp days_left(certificate),
    do: DateTime.diff(certificate.expires, DateTime.utc_now()) |> div(86_400)
end
