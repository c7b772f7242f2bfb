//! Looking at Redis step by step, over connections of its own: what each step finds, or why it failed.
//!
//! Nothing is written. Each step may take the time that connecting may take, the count of keys a time
//! of its own. What a step says waits for the one before.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use redis::Value;

use crate::address::Address;
use crate::census::{self, Counts, End};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::commands::Commands;
use crate::connection::{Connection, Stream};
use crate::error::{Error, ErrorKind};
use crate::failure::from_io;
use crate::options::{Options, Topology};
use crate::route::Route;
use crate::sentinel;
use crate::server::Server;
use crate::server_info::ServerInfo;
use crate::socket::{self, Socket};
use crate::tls::Tls;

/// How many pings are measured.
const PINGS: usize = 100;

/// What a step found, or why it failed; nothing where it was not taken.
pub type Step<T> = Option<Result<T, Error>>;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Whether somebody could tell where Redis is.
    pub location: Step<()>,
    /// Of a cluster, the nodes that could not be reached before this one.
    pub passed_over: Vec<String>,
    /// The way to the server that was looked at.
    pub way: Option<Way>,
    /// What the server says of itself.
    pub info: Step<ServerInfo>,
    /// How fast it answers.
    pub latency: Step<Latency>,
    /// By how much its clock is ahead of this host's, in milliseconds.
    pub skew_ms: Step<i64>,
    /// What we may not do there.
    pub refusals: Step<Refusals>,
    /// Of a cluster, the number of masters.
    pub masters: Step<usize>,
    /// What lies there, and how the count ended.
    pub census: Option<(Counts, End)>,
}

/// The way to a server.
#[derive(Debug)]
pub struct Way {
    /// Its address.
    pub address: Address,
    /// The addresses that its name has, and how long it took to find them.
    pub resolution: Step<(Vec<IpAddr>, Duration)>,
    /// How long connecting took.
    pub connect: Step<Duration>,
    /// Whether it is to speak TLS.
    pub uses_tls: bool,
    /// Whether the handshake, if there is one, went well.
    pub handshake: Step<()>,
    /// The certificate it showed, in DER, be it valid or not.
    pub certificate: Option<Vec<u8>>,
    /// Whether it let us in.
    pub login: Step<()>,
    /// The login alone was right: the database is refused.
    pub database_refused: bool,
    /// Who we are there, so far as is known.
    pub user: String,
}

/// How long pings took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// How many there were.
    pub pings: usize,
    /// The median.
    pub median: Duration,
    /// The slowest.
    pub slowest: Duration,
}

/// Commands that the server refused to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Whatever their keys.
    pub commands: Vec<String>,
    /// For their keys.
    pub keys: Vec<String>,
}

/// Examines what the options name. `probes` are the commands to try, each with arguments with which it
/// changes nothing; counting may take `counting`.
pub fn examine(options: &Options, probes: &[Vec<String>], counting: Duration) -> Findings {
    let mut findings = Findings::default();
    let examiner = Examiner { options, probes };
    let way = examiner.find_way(&mut findings);
    if let Some((server, mut connection)) = way {
        let in_order = examiner.question(&mut connection, &mut findings);
        if in_order.is_some() {
            findings.census = examiner.count(server, connection, counting, &mut findings);
        }
    }
    findings
}

struct Examiner<'o> {
    options: &'o Options,
    probes: &'o [Vec<String>],
}

/// Keeps what a step found. The next one can be taken unless the connection is in doubt.
fn keep<T>(step: &mut Step<T>, outcome: Result<T, Error>) -> Option<()> {
    let goes_on = match &outcome {
        Ok(_) => true,
        Err(error) => error.leaves_stream_in_order(),
    };
    *step = Some(outcome);
    goes_on.then_some(())
}

impl Examiner<'_> {
    fn deadline(&self) -> Instant {
        Instant::now() + self.options.connect_timeout
    }

    /// Finds a server and logs in.
    fn find_way(&self, findings: &mut Findings) -> Option<(Server, Connection)> {
        let servers = match self.locate() {
            Ok(servers) => servers,
            Err(error) => {
                findings.location = Some(Err(error));
                return None;
            }
        };
        findings.location = Some(Ok(()));
        for server in servers {
            let mut way = Way::to(&server);
            let connection = way.walk(&server, || self.deadline());
            if let Some(failed) = findings.way.replace(way) {
                findings.passed_over.push(failed.address.to_string());
            }
            if let Some(connection) = connection {
                return Some((server, connection));
            }
        }
        None
    }

    /// The servers to try, in turn.
    fn locate(&self) -> Result<Vec<Server>, Error> {
        let mut servers = self.options.servers(self.deadline())?;
        match &self.options.topology {
            Topology::Cluster => {}
            Topology::Standalone => servers.truncate(1),
            Topology::Sentinel { sentinels, group } => {
                let template = servers.first().ok_or(ErrorKind::Url)?;
                servers = vec![sentinel::find_master(
                    sentinels,
                    group,
                    template,
                    self.deadline(),
                )?];
            }
        }
        Ok(servers)
    }

    /// Asks the server what can be asked without looking at its keys.
    fn question(&self, connection: &mut Connection, findings: &mut Findings) -> Option<()> {
        let info = connection.ask_info(self.deadline());
        keep(&mut findings.info, info)?;
        let latency = measure_latency(connection, self.deadline());
        keep(&mut findings.latency, latency)?;
        let skew = measure_skew(connection, self.deadline());
        keep(&mut findings.skew_ms, skew)?;
        let refusals = probe(self.probes, connection, self.deadline());
        keep(&mut findings.refusals, refusals)
    }

    fn count(
        &self,
        server: Server,
        connection: Connection,
        counting: Duration,
        findings: &mut Findings,
    ) -> Option<(Counts, End)> {
        let mut route = if matches!(self.options.topology, Topology::Cluster) {
            // Of a cluster, the keys of one node may have their index sets on another.
            drop(connection);
            let cluster = Cluster::open(&[server], self.deadline());
            let masters = cluster.as_ref().map(Cluster::masters).map_err(Clone::clone);
            findings.masters = Some(masters);
            Route::Cluster(Box::new(cluster.ok()?))
        } else {
            Route::Server(Box::new((server, connection)))
        };
        let until = Instant::now() + counting;
        let patience = self.options.connect_timeout;
        Some(census::count(&mut route, patience, until))
    }
}

impl Way {
    fn to(server: &Server) -> Self {
        Self {
            address: server.address.clone(),
            resolution: None,
            connect: None,
            uses_tls: server.uses_tls() && matches!(server.address, Address::Tcp { .. }),
            handshake: None,
            certificate: None,
            login: None,
            database_refused: false,
            user: server.username.as_deref().unwrap_or("default").to_owned(),
        }
    }

    fn walk(&mut self, server: &Server, deadline: impl Fn() -> Instant) -> Option<Connection> {
        let addresses = self.resolve(server, deadline())?;
        let mut socket = self.connect(server, &addresses, deadline())?;
        socket.set_deadline(deadline());
        let stream = match Stream::over(server, socket) {
            Ok(stream) => stream,
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Tls(_)) {
                    self.certificate = certificate(server, &addresses, deadline());
                }
                self.handshake = Some(Err(error));
                return None;
            }
        };
        self.certificate = stream.certificate();
        self.handshake = Some(Ok(()));
        self.log_in(server, stream, &deadline)
    }

    /// The addresses of a host; none are needed for a Unix socket.
    fn resolve(&mut self, server: &Server, deadline: Instant) -> Option<Vec<SocketAddr>> {
        let Address::Tcp { host, port } = &server.address else {
            return Some(Vec::new());
        };
        let begin = Instant::now();
        match resolve(host, *port, deadline) {
            Ok(addresses) => {
                let ips = addresses.iter().map(SocketAddr::ip).collect();
                self.resolution = Some(Ok((ips, begin.elapsed())));
                Some(addresses)
            }
            Err(error) => {
                self.resolution = Some(Err(error));
                None
            }
        }
    }

    fn connect(
        &mut self,
        server: &Server,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Option<Socket> {
        let begin = Instant::now();
        let socket = match &server.address {
            Address::Tcp { .. } => Socket::connect(addresses, deadline),
            unix @ Address::Unix(_) => Socket::open(unix, deadline),
        };
        let elapsed = begin.elapsed();
        self.connect = Some(match &socket {
            Ok(_) => Ok(elapsed),
            Err(error) => Err(from_io(error)),
        });
        socket.ok()
    }

    fn log_in(
        &mut self,
        server: &Server,
        stream: Stream,
        deadline: impl Fn() -> Instant,
    ) -> Option<Connection> {
        let mut connection = Connection::over(stream);
        let login = connection.log_in(server, deadline());
        if let Err(error) = &login
            && server.database != 0
            && error.leaves_stream_in_order()
        {
            let first = Server {
                database: 0,
                ..server.clone()
            };
            self.database_refused = connection.log_in(&first, deadline()).is_ok();
        }
        let logged_in = login.is_ok();
        self.login = Some(login);
        if !logged_in {
            return None;
        }
        // Not all may ask who they are.
        if let Ok(Value::BulkString(user)) = connection.ask("ACL", &["WHOAMI"], deadline()) {
            self.user = String::from_utf8_lossy(&user).into_owned();
        }
        Some(connection)
    }
}

/// The system looks names up, and knows no deadline: a thread waits for it.
fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Error> {
    let (sender, receiver) = bounded(1);
    let host = host.to_owned();
    thread::Builder::new()
        .name("pow_redis_dns".to_owned())
        .spawn(move || {
            // Whoever waits no longer needs no answer.
            let _ = sender.send(socket::resolve(&host, port));
        })
        .map_err(|error| from_io(&error))?;
    match receiver.recv_deadline(deadline) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(ErrorKind::Disconnected.into()),
        Ok(Err(error)) => Err(from_io(&error)),
        Err(_) => Err(ErrorKind::Timeout.into()),
    }
}

/// The certificate that we refused. Nothing is sent over this connection.
fn certificate(server: &Server, addresses: &[SocketAddr], deadline: Instant) -> Option<Vec<u8>> {
    let unverified = server.clone().with_tls(Some(Tls::unverified()));
    let socket = Socket::connect(addresses, deadline).ok()?;
    Stream::over(&unverified, socket).ok()?.certificate()
}

fn measure_latency(connection: &mut Connection, deadline: Instant) -> Result<Latency, Error> {
    let mut times = Vec::with_capacity(PINGS);
    while times.len() < PINGS {
        let begin = Instant::now();
        // A slow server is measured by fewer.
        if begin >= deadline && !times.is_empty() {
            break;
        }
        connection.ask("PING", &[], deadline)?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |position: usize| times.get(position).copied().unwrap_or_default();
    Ok(Latency {
        pings: times.len(),
        median: at(times.len() / 2),
        slowest: at(times.len().saturating_sub(1)),
    })
}

/// The server's clock is taken to be read halfway between question and answer.
fn measure_skew(connection: &mut Connection, deadline: Instant) -> Result<i64, Error> {
    let begin = Clock::local(Duration::ZERO).now_ms();
    let server = connection.ask_time(deadline)?;
    let end = Clock::local(Duration::ZERO).now_ms();
    Ok(server.saturating_sub(begin.midpoint(end)))
}

fn probe(
    probes: &[Vec<String>],
    connection: &mut Connection,
    deadline: Instant,
) -> Result<Refusals, Error> {
    let mut commands = Commands::new();
    for (name, arguments) in probes.iter().filter_map(|probe| probe.split_first()) {
        commands.push(name, |command| {
            command.arg(arguments);
        });
    }
    connection.send(commands.as_bytes(), commands.len(), deadline)?;
    let mut refusals = Refusals::default();
    for name in probes.iter().filter_map(|probe| probe.first()) {
        if let Value::ServerError(error) = connection.receive(deadline)?
            && error.code() == "NOPERM"
        {
            // The words differ from version to version; those on keys do not speak of a command.
            let speaks_of_command = error
                .details()
                .is_some_and(|text| text.contains(" command"));
            if speaks_of_command {
                refusals.commands.push(name.clone());
            } else {
                refusals.keys.push(name.clone());
            }
        }
    }
    Ok(refusals)
}
