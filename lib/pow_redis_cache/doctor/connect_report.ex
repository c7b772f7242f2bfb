defmodule PowRedisCache.Doctor.ConnectReport do
  @moduledoc false
  # The checks of a connect, from the endpoint to the login.

  import PowRedisCache.Doctor.Failure, only: [failure: 2]

  alias PowRedisCache.Doctor.Certificate
  alias PowRedisCache.Options

  # A certificate that expires in fewer days is a warning.
  @min_days_left 14

  @doc "Returns the result of a check, or `nil` if it did not run."
  def check("endpoint", %{endpoints: {:error, reason}, options: options}) do
    what = %{
      standalone: "cannot resolve the address of Redis",
      sentinel: "no sentinel reports the address of the primary",
      cluster: "cannot resolve the addresses of the cluster"
    }

    topology = Options.topology(options)
    result = failure(what[topology], reason)

    # The advice of an error is about :url.
    if topology == :sentinel,
      do: put_elem(result, 2, "Check :sentinels and :group, and that the sentinels are running."),
      else: result
  end

  def check("endpoint", %{primaries: {:error, reason}}) do
    failure("the node does not report its slots", reason)
  end

  def check("endpoint", %{connect: connect} = report) do
    address = connect.address

    case {Options.topology(report.options), report} do
      {:standalone, _} ->
        {:ok, address}

      {:sentinel, %{options: options}} ->
        {:ok, "#{address}, the primary of #{options.sentinel.group}"}

      {:cluster, %{unreachable: [_ | _] = others}} ->
        {:warning, one_node(report) <> "; cannot connect to #{Enum.join(others, ", ")}",
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
     "Correct the host in :url. `getent hosts #{host}` shows how this host resolves it."}
  end

  def check("connection", %{connect: %{connect: {:ok, took}, address: address}}) do
    {:ok, "to #{address} in #{milliseconds(took)}"}
  end

  def check("connection", %{
        connect: %{connect: {:error, {:timeout, _}}} = connect,
        options: options
      }) do
    {:error, "no reply from #{connect.address} within #{options.connect_timeout} ms",
     "Allow this host to reach that port in your firewall or security group, or correct :url."}
  end

  def check("connection", %{connect: %{connect: {:error, _reason}, address: address}}) do
    {:error, "#{address} refused the connection or is unreachable",
     "Start Redis there, or correct the host and port in :url. In a container, localhost is the container."}
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
     "Check that the port in :url uses TLS. If it does not, use `redis://` or `tls: false`."}
  end

  def check("TLS", %{connect: %{handshake: {:error, reason}, certificate: der}}) do
    {:error, what, advice} = failure("rejected", reason)
    {:error, what <> shown(Certificate.read(der)), advice}
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

  def check("login", %{connect: %{login: {:error, _reason}, database_refused: true}}) do
    {:error, "username and password are correct, but SELECT of the database failed",
     "Set the database in :url or :database to one that exists (`databases` in the server's " <>
       "configuration) and that the user may SELECT."}
  end

  def check("login", %{connect: %{login: {:error, {:disconnected, _}}}}) do
    {:error, "the server closed the connection",
     "Check whether the server has reached `maxclients`, and whether the port uses TLS (`rediss://`)."}
  end

  def check("login", %{connect: %{login: {:error, {:timeout, _}}}, options: options}) do
    {:error, "no reply within #{options.connect_timeout} ms",
     "Check whether the server hangs, and whether the port uses TLS (`rediss://`)."}
  end

  def check("login", %{connect: %{login: {:error, {:server, %{code: "ERR"}}}, user: user}}) do
    {:error, "as #{user}: Redis returned an error (ERR)",
     "Remove the password from :url if the server has none. Otherwise, check the log of the server."}
  end

  def check("login", %{connect: %{login: {:error, reason}, user: user}}),
    do: failure("as #{user}", reason)

  def check(_name, _report), do: nil

  @doc "Formats microseconds as milliseconds."
  def milliseconds(microseconds), do: "#{Float.round(microseconds / 1_000, 2)} ms"

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
