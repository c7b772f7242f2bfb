//! The connection to Redis, whatever the topology.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use redis::Value;

use super::address::Address;
use super::cluster::Cluster;
use super::config::{ConnectConfig, Topology};
use super::fence::Fence;
use super::patience::Patience;
use super::primary_watch::PrimaryWatch;
use super::sentinel;
use super::server_clock::ServerClock;
use super::standalone::Standalone;
use crate::error::{Error, ErrorKind};
use crate::resp::commands::Commands;

/// Redis reads 16 kB at a time, and runs the first commands while the next ones are being written.
const BATCH_BYTES: usize = 16 << 10;

/// A connection to one server, or connections to the nodes of a cluster. Drop it after any error but an
/// error reply.
pub(crate) enum Client {
    Standalone(Box<Standalone>),
    Cluster(Box<Cluster>),
}

impl Client {
    /// Resolves the endpoints and connects. What lost connections left behind is ended before anything is
    /// sent to the same server.
    pub(crate) fn connect(
        config: &ConnectConfig,
        fence: &Fence,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let endpoints = config.endpoints(deadline)?;
        let first = || endpoints.first().ok_or(ErrorKind::Url);
        let server = match &config.topology {
            Topology::Standalone => Standalone::open(first()?, fence, deadline)?,
            Topology::Sentinel { sentinels, group } => {
                let (endpoint, connection, epoch) =
                    sentinel::connect_to_primary(sentinels, group, first()?, fence, deadline)?;
                Standalone::new(endpoint, connection).in_epoch(epoch)
            }
            Topology::Cluster => {
                let cluster = Cluster::open(&endpoints, fence, deadline)?;
                return Ok(Self::Cluster(Box::new(cluster)));
            }
        };
        Ok(Self::Standalone(Box::new(server)))
    }

    /// Whether it has connections to several servers.
    pub(crate) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// How many bytes of commands to send at a time. A cluster gets all at once: it waits for the
    /// replies before it returns.
    pub(crate) const fn batch_bytes(&self) -> usize {
        match self {
            Self::Standalone(_) => BATCH_BYTES,
            Self::Cluster(_) => usize::MAX,
        }
    }

    /// Sends commands. On a cluster, also receives all replies.
    pub(crate) fn send(
        &mut self,
        commands: &mut Commands,
        patience: Patience,
    ) -> Result<(), Error> {
        match self {
            Self::Standalone(server) => server.connection.send(commands, patience),
            Self::Cluster(cluster) => cluster.send(commands, patience),
        }
    }

    /// Receives the reply to the next command sent.
    pub(crate) fn receive(&mut self, patience: Patience) -> Result<Value, Error> {
        match self {
            Self::Standalone(server) => server.receive(patience),
            Self::Cluster(cluster) => cluster.receive(),
        }
    }

    /// Whether a reply, or part of one, is buffered.
    pub(crate) fn has_buffered(&self) -> bool {
        match self {
            Self::Standalone(server) => server.has_buffered(),
            Self::Cluster(cluster) => cluster.has_buffered(),
        }
    }

    /// Whether something was sent that has not been answered.
    pub(crate) fn is_unfinished(&self) -> bool {
        match self {
            Self::Standalone(server) => server.connection.is_unfinished(),
            Self::Cluster(cluster) => cluster.is_unfinished(),
        }
    }

    /// Reads the server's clock, which also shows that the server answers.
    pub(crate) fn read_clock(&mut self, patience: Patience) -> Result<(), Error> {
        match self {
            Self::Standalone(server) => server.connection.read_clock(patience),
            Self::Cluster(cluster) => cluster.read_clock(patience),
        }
    }

    /// Takes what servers have told about changed keys and has been read, if no reply is outstanding.
    pub(crate) fn take_pushes(&mut self) -> Result<(), Error> {
        match self {
            Self::Standalone(server) => server.connection.take_pushes(),
            Self::Cluster(cluster) => cluster.take_pushes(),
        }
    }

    /// Takes what servers have told about changed keys, if no reply is outstanding. Does not block.
    pub(crate) fn read_pushes(&mut self) -> Result<(), Error> {
        match self {
            Self::Standalone(server) => server.connection.read_pushes(),
            Self::Cluster(cluster) => cluster.read_pushes(),
        }
    }

    /// When the server was last asked whether it is still the one to ask, and answered, in microseconds of the
    /// boot clock: of several, the one that was asked first. `None` if one does not track.
    pub(crate) fn confirmed_at(&self) -> Option<u64> {
        match self {
            Self::Standalone(server) => server.connection.confirmed_at(),
            Self::Cluster(cluster) => cluster.confirmed_at(),
        }
    }

    /// Why a server does not track, though it was to.
    pub(crate) fn tracking_refusal(&self) -> Option<&Error> {
        match self {
            Self::Standalone(server) => server.connection.tracking_refusal(),
            Self::Cluster(cluster) => cluster.tracking_refusal(),
        }
    }

    /// The sockets, to be waited for.
    pub(crate) fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Standalone(server) => vec![server.connection.socket()],
            Self::Cluster(cluster) => cluster.sockets(),
        }
    }

    /// The server's clock.
    pub(crate) fn clock(&self) -> ServerClock {
        match self {
            Self::Standalone(server) => server.connection.clock(),
            Self::Cluster(cluster) => cluster.clock(),
        }
    }

    /// Whether the sentinels name another primary now.
    pub(crate) fn is_superseded(&self, watch: &PrimaryWatch) -> bool {
        match self {
            Self::Standalone(server) => server.is_superseded(watch),
            Self::Cluster(_) => false,
        }
    }

    /// Tells the watch which primary the sentinels have named.
    pub(crate) fn tell(&self, watch: &PrimaryWatch) {
        match self {
            Self::Standalone(server) => server.tell(watch),
            Self::Cluster(_) => {}
        }
    }

    /// The server's product and version, if it reports them.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Standalone(server) => server.connection.version(),
            Self::Cluster(cluster) => cluster.version(),
        }
    }

    /// Whether the login is the default user's, though the endpoint names another.
    pub(crate) fn user_is_ignored(&self) -> bool {
        match self {
            Self::Standalone(server) => server.connection.user_is_ignored(),
            Self::Cluster(cluster) => cluster.user_is_ignored(),
        }
    }

    /// The server's address; on a cluster, the address of one node.
    pub(crate) fn address(&self) -> &Address {
        match self {
            Self::Standalone(server) => &server.endpoint.address,
            Self::Cluster(cluster) => cluster.address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::Endpoint;
    use super::super::testing::{FakeServer, array, soon};
    use super::*;
    use crossbeam_channel::bounded;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// A server that is its own sentinel and its own cluster, and knows no user `h`. Its sentinel names
    /// another primary in each epoch but the first.
    fn server(epoch: &Arc<AtomicU64>) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let epoch = Arc::clone(epoch);
        FakeServer::serve(listener, move |words| {
            Some(match words.join(" ").as_str() {
                "AUTH h pw" => "-WRONGPASS x\r\n".to_owned(),
                "AUTH pw" => "+OK\r\n".to_owned(),
                "PING" => "+PONG\r\n".to_owned(),
                "ROLE" => array(&["master"]),
                "CLUSTER SLOTS" => {
                    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:{port}\r\n")
                }
                _ => {
                    let epoch = epoch.load(Ordering::Relaxed);
                    let ip = format!("127.0.0.{}", epoch + 1);
                    let (port, epoch) = (port.to_string(), epoch.to_string());
                    array(&["ip", &ip, "port", &port, "config-epoch", &epoch])
                }
            })
        })
    }

    /// How to connect to the server in each topology.
    fn configs(server: &FakeServer, endpoint: &Endpoint) -> [ConnectConfig; 3] {
        let sentinels = vec![server.endpoint()];
        let group = "mymaster".to_owned();
        [
            Topology::Standalone,
            Topology::Sentinel { sentinels, group },
            Topology::Cluster,
        ]
        .map(|topology| ConnectConfig {
            topology,
            ..ConnectConfig::for_endpoint(endpoint.clone(), Duration::from_secs(1))
        })
    }

    fn connect(config: &ConnectConfig) -> Client {
        Client::connect(config, &Fence::default(), soon()).unwrap()
    }

    #[test]
    fn replies_are_received_in_any_topology() {
        let server = server(&Arc::default());
        for config in configs(&server, &server.endpoint()) {
            let mut client = connect(&config);
            let is_cluster = matches!(config.topology, Topology::Cluster);
            let batch_bytes = if is_cluster { usize::MAX } else { 16_384 };
            assert_eq!(client.batch_bytes(), batch_bytes);
            assert_eq!(client.version(), Some("Redis 7.0.15"));
            assert_eq!(client.address(), &server.endpoint().address);
            assert!(!client.user_is_ignored());

            let mut commands = Commands::new();
            commands.push_keyless("PING", |_| ());
            commands.push_keyless("PING", |_| ());
            assert!(!client.has_buffered() && !client.is_unfinished());
            client.send(&mut commands, soon().into()).unwrap();
            // A cluster has received the replies already.
            assert_eq!(client.is_unfinished(), !is_cluster);
            let pong = Value::SimpleString("PONG".to_owned());
            assert_eq!(client.receive(soon().into()), Ok(pong.clone()));
            assert!(client.has_buffered() && !client.is_unfinished());
            assert_eq!(client.receive(soon().into()), Ok(pong));
            assert!(!client.has_buffered());
            let none_left = client.receive(soon().into());
            assert_eq!(none_left, Err(ErrorKind::Protocol.into()));
        }
    }

    #[test]
    fn the_clock_is_read_in_any_topology() {
        let server = server(&Arc::default());
        for config in configs(&server, &server.endpoint()) {
            let mut client = connect(&config);
            let before = server.received("TIME");
            client.read_clock(soon().into()).unwrap();
            assert_eq!(server.received("TIME"), before + 1);
            assert!((1_700_500..1_760_500).contains(&client.clock().now_ms()));
        }
    }

    #[test]
    fn an_ignored_user_is_known_in_any_topology() {
        let server = server(&Arc::default());
        let endpoint = Endpoint {
            username: Some(b"h".to_vec()),
            password: Some(b"pw"[..].into()),
            ..server.endpoint()
        };
        for config in configs(&server, &endpoint) {
            assert!(connect(&config).user_is_ignored());
        }
    }

    #[test]
    fn only_a_server_that_sentinels_named_is_superseded() {
        let epoch = Arc::new(AtomicU64::new(0));
        let server = server(&epoch);
        let configs = configs(&server, &server.endpoint());
        let clients = configs.each_ref().map(connect);
        let (_stop, stopped) = bounded(0);
        let watch = PrimaryWatch::start(&configs[1], || false, stopped).unwrap();
        let watch = watch.unwrap();
        let superseded = || {
            clients
                .each_ref()
                .map(|client| client.is_superseded(&watch))
        };
        assert_eq!(superseded(), [false; 3]);
        epoch.store(1, Ordering::Relaxed);
        watch.ask_now().unwrap();
        assert_eq!(superseded(), [false, true, false]);
    }
}
