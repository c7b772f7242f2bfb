defmodule PowRedisCache.Doctor.ConnectReport do
  @moduledoc false
  # The way to a server, from its name to the login.

  import PowRedisCache.Doctor.Failure, only: [failed: 2]

  alias PowRedisCache.Doctor.Certificate
  alias PowRedisCache.Options

  # A certificate that ends sooner, in days, is a warning.
  @days_left 14

  @doc "A check of what was found; `nil` where it was not looked at."
  def check("location", %{endpoints: {:error, reason}, options: options}) do
    what = %{
      standalone: "Nobody could tell where Redis is",
      sentinel: "No sentinel could tell where the master is",
      cluster: "Nobody could tell where the cluster is"
    }

    topology = Options.topology(options)
    failure = failed(what[topology], reason)

    # What an error says to do is about :url.
    if topology == :sentinel,
      do: put_elem(failure, 2, "Check :sentinels and :group, and that the sentinels run."),
      else: failure
  end

  def check("location", %{primaries: {:error, reason}}) do
    failed("The node does not tell who has which slots", reason)
  end

  def check("location", %{connect: connect} = subject) do
    address = connect.address

    case {Options.topology(subject.options), subject} do
      {:standalone, _} ->
        {:ok, address}

      {:sentinel, %{options: options}} ->
        {:ok, "#{address}, which the sentinels call the master of #{options.sentinel.group}"}

      {:cluster, %{unreachable: [_ | _] = others}} ->
        {:warning, one_node(subject) <> "; #{Enum.join(others, ", ")} did not let us in",
         "Start these nodes, or take them out of :cluster."}

      {:cluster, _} ->
        {:ok, one_node(subject)}
    end
  end

  def check("DNS", %{connect: %{resolution: nil, address: address}}) do
    {:ok, "not needed, #{address} is a socket of this host"}
  end

  def check("DNS", %{connect: %{resolution: {:ok, found}}}) do
    {:ok, "#{Enum.join(found.addresses, ", ")} in #{milliseconds(found.microseconds)}"}
  end

  def check("DNS", %{connect: %{resolution: {:error, reason}} = connect, options: options}) do
    host = String.replace(connect.address, ~r/:\d+$/, "")

    what =
      case reason do
        {:timeout, _} -> "no answer about #{host} within #{options.connect_timeout} ms"
        _ -> "#{host} has no address"
      end

    {:error, what,
     "Correct the host in :url. `getent hosts #{host}` shows what this host knows of it."}
  end

  def check("connection", %{connect: %{connect: {:ok, took}, address: address}}) do
    {:ok, "to #{address} in #{milliseconds(took)}"}
  end

  def check("connection", %{
        connect: %{connect: {:error, {:timeout, _}}} = connect,
        options: options
      }) do
    {:error, "no answer from #{connect.address} within #{options.connect_timeout} ms",
     "Let the firewall, or the network's rules, pass this host to that port, or correct :url."}
  end

  def check("connection", %{connect: %{connect: {:error, _reason}, address: address}}) do
    {:error, "#{address} refuses connections, or cannot be reached",
     "Start Redis there, or correct host and port of :url. In a container, localhost is the container."}
  end

  def check("TLS", %{connect: %{handshake: nil}}), do: nil
  def check("TLS", %{connect: %{uses_tls: false}}), do: {:ok, "not used"}

  def check("TLS", %{connect: %{handshake: {:error, {reason, _}}}, options: options})
      when reason in [:timeout, :disconnected] do
    what = %{
      timeout: "no answer to the handshake within #{options.connect_timeout} ms",
      disconnected: "the server closed the connection in the handshake"
    }

    {:error, what[reason],
     "See whether the port of :url speaks TLS; where it does not, use `redis://` or `tls: false`."}
  end

  def check("TLS", %{connect: %{handshake: {:error, reason}, certificate: der}}) do
    {:error, what, advice} = failed("refused", reason)
    {:error, what <> shown(Certificate.read(der)), advice}
  end

  def check("TLS", %{connect: %{certificate: der}, options: %{verify: :verify_none}}) do
    {:warning, "not verified" <> shown(Certificate.read(der)),
     "Whoever is in the way can pose as Redis. Use verify: :verify_peer, with :cacertfile for an " <>
       "authority of your provider's own. Heroku offers none."}
  end

  def check("TLS", %{connect: %{certificate: der}}) do
    certificate = Certificate.read(der)
    found = "verified" <> shown(certificate)

    case days_left(certificate) do
      days when is_integer(days) and days < @days_left ->
        {:warning, found, "Renew it: it ends in #{days} days."}

      _ ->
        {:ok, found}
    end
  end

  def check("login", %{connect: %{login: {:ok, _}, user: user}}), do: {:ok, "as #{user}"}

  def check("login", %{connect: %{login: {:error, _reason}, database_refused: true}}) do
    {:error, "user and password are right, the database is refused",
     "Name a database that the server has (`databases` in its configuration), and that the user may " <>
       "SELECT, in :url or :database."}
  end

  def check("login", %{connect: %{login: {:error, {:disconnected, _}}}}) do
    {:error, "the server closed the connection",
     "See whether its `maxclients` is reached, and whether the port speaks TLS (`rediss://`)."}
  end

  def check("login", %{connect: %{login: {:error, {:timeout, _}}}, options: options}) do
    {:error, "no answer within #{options.connect_timeout} ms",
     "See whether the server stands still, and whether the port speaks TLS (`rediss://`)."}
  end

  def check("login", %{connect: %{login: {:error, {:server, %{code: "ERR"}}}, user: user}}) do
    {:error, "as #{user}: Redis answered with an error (ERR)",
     "Leave the password out of :url, if the server has none. Else its log may say more."}
  end

  def check("login", %{connect: %{login: {:error, reason}, user: user}}),
    do: failed("as #{user}", reason)

  def check(_name, _subject), do: nil

  @doc "Microseconds in words."
  def milliseconds(microseconds), do: "#{Float.round(microseconds / 1_000, 2)} ms"

  defp one_node(%{connect: connect, primaries: masters}) do
    of = with {:ok, number} <- masters, do: " of a cluster of #{number} masters", else: (_ -> "")
    "#{connect.address}, one node#{of}: what follows is about this node"
  end

  defp shown(nil), do: ""

  defp shown(certificate) do
    "; issued by #{certificate.issuer}, expires #{DateTime.to_date(certificate.expires)}"
  end

  defp days_left(nil), do: nil

  defp days_left(certificate),
    do: DateTime.diff(certificate.expires, DateTime.utc_now()) |> div(86_400)
end
