//! What the doctor finds while it connects.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use redis::Value;

use super::StepResult;
use crate::error::{Error, ErrorKind};
use crate::net::address::Address;
use crate::net::connection::Connection;
use crate::net::endpoint::Endpoint;
use crate::net::lookup::resolve;
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls::TlsConfig;

/// What the doctor finds while it connects.
#[derive(Debug)]
pub struct ConnectReport {
    /// The server's address.
    pub address: Address,
    /// The IP addresses of its host name, and how long the lookup took.
    pub resolution: StepResult<(Vec<IpAddr>, Duration)>,
    /// How long connecting took.
    pub connect: StepResult<Duration>,
    /// Whether TLS is used.
    pub uses_tls: bool,
    /// Whether the TLS handshake succeeded, if there is one.
    pub handshake: StepResult<()>,
    /// The certificate that the server presented, valid or not, in DER.
    pub certificate: Option<Vec<u8>>,
    /// Whether the server accepted the credentials.
    pub login: StepResult<()>,
    /// Whether the credentials alone are right, and the database is refused.
    pub database_refused: bool,
    /// The user, as far as is known.
    pub user: String,
}

impl ConnectReport {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.clone(),
            resolution: None,
            connect: None,
            uses_tls: endpoint.uses_tls() && matches!(endpoint.address, Address::Tcp { .. }),
            handshake: None,
            certificate: None,
            login: None,
            database_refused: false,
            user: String::from_utf8_lossy(endpoint.username.as_deref().unwrap_or(b"default"))
                .into_owned(),
        }
    }

    /// Why the server could not be used.
    pub(super) fn failure(&self) -> Option<Error> {
        let resolution = self
            .resolution
            .as_ref()
            .and_then(|step| step.as_ref().err());
        let connect = self.connect.as_ref().and_then(|step| step.as_ref().err());
        let steps = [&self.handshake, &self.login];
        let later = steps
            .into_iter()
            .find_map(|step| step.as_ref()?.as_ref().err());
        resolution.or(connect).or(later).cloned()
    }

    /// Connects, and stores the result of each step.
    pub(super) fn connect(
        &mut self,
        endpoint: &Endpoint,
        deadline: impl Fn() -> Instant,
    ) -> Option<Connection> {
        let addresses = self.resolve(endpoint, deadline())?;
        let mut socket = self.open_socket(endpoint, &addresses, deadline())?;
        socket.set_deadline(deadline());
        let stream = match Stream::over(endpoint, socket) {
            Ok(stream) => stream,
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Tls(_)) {
                    self.certificate = rejected_certificate(endpoint, &addresses, deadline());
                }
                self.handshake = Some(Err(error));
                return None;
            }
        };
        self.certificate = stream.certificate();
        self.handshake = Some(Ok(()));
        self.log_in(endpoint, stream, &deadline)
    }

    /// The addresses of a host. A Unix socket needs none.
    fn resolve(&mut self, endpoint: &Endpoint, deadline: Instant) -> Option<Vec<SocketAddr>> {
        let Address::Tcp { host, port } = &endpoint.address else {
            return Some(Vec::new());
        };
        let start = Instant::now();
        match resolve(host, *port, deadline) {
            Ok(addresses) => {
                let ips = addresses.iter().map(SocketAddr::ip).collect();
                self.resolution = Some(Ok((ips, start.elapsed())));
                Some(addresses)
            }
            Err(error) => {
                self.resolution = Some(Err(error.into()));
                None
            }
        }
    }

    fn open_socket(
        &mut self,
        endpoint: &Endpoint,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Option<Socket> {
        let start = Instant::now();
        let socket = match &endpoint.address {
            Address::Tcp { .. } => Socket::connect(addresses, deadline),
            unix @ Address::Unix(_) => Socket::open(unix, deadline),
        };
        let elapsed = start.elapsed();
        match socket {
            Ok(socket) => {
                self.connect = Some(Ok(elapsed));
                Some(socket)
            }
            Err(error) => {
                self.connect = Some(Err(error.into()));
                None
            }
        }
    }

    fn log_in(
        &mut self,
        endpoint: &Endpoint,
        stream: Stream,
        deadline: impl Fn() -> Instant,
    ) -> Option<Connection> {
        let mut connection = Connection::over(stream);
        let login = connection.log_in(endpoint, deadline());
        if let Err(error) = &login
            && endpoint.database != 0
            && error.keeps_connection()
        {
            let first_database = Endpoint {
                database: 0,
                ..endpoint.clone()
            };
            self.database_refused = connection.log_in(&first_database, deadline()).is_ok();
        }
        let logged_in = login.is_ok();
        self.login = Some(login);
        if !logged_in {
            return None;
        }
        // The user may lack permission for this command.
        if let Ok(Value::BulkString(user)) = connection.command("ACL", &["WHOAMI"], deadline()) {
            self.user = String::from_utf8_lossy(&user).into_owned();
        }
        Some(connection)
    }
}

/// The certificate that failed verification. Nothing is sent over this connection.
fn rejected_certificate(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Option<Vec<u8>> {
    let tls = endpoint.tls.as_ref().map(TlsConfig::unverified);
    let unverified = endpoint.clone().with_tls(tls);
    let socket = Socket::connect(addresses, deadline).ok()?;
    Stream::over(&unverified, socket).ok()?.certificate()
}
