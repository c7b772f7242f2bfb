//! The way to Redis, whatever it is made of.

use std::time::Instant;

use redis::Value;

use crate::address::Address;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::commands::Commands;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::options::{Options, Topology};
use crate::sentinel;
use crate::server::Server;

/// So many bytes of commands are sent at a time: a server reads no more at once, and has begun with them while
/// the next are written.
const PIECE: usize = 16 << 10;

/// A way to Redis. After any error but an error reply, drop it.
pub(crate) enum Route {
    Server(Box<(Server, Connection)>),
    Cluster(Box<Cluster>),
}

impl Route {
    /// Asks where Redis is, and connects.
    pub(crate) fn open(options: &Options, deadline: Instant) -> Result<Self, Error> {
        let servers = options.servers(deadline)?;
        let first = || servers.first().ok_or(ErrorKind::Url);
        match &options.topology {
            Topology::Standalone => {
                let server = first()?.clone();
                let connection = Connection::open(&server, deadline)?;
                Ok(Self::Server(Box::new((server, connection))))
            }
            Topology::Sentinel { sentinels, group } => {
                let master = sentinel::connect_to_master(sentinels, group, first()?, deadline)?;
                Ok(Self::Server(Box::new(master)))
            }
            Topology::Cluster => {
                let cluster = Cluster::open(&servers, deadline)?;
                Ok(Self::Cluster(Box::new(cluster)))
            }
        }
    }

    /// How many bytes of commands to send at a time. A cluster gets all at once, since it waits for the replies.
    pub(crate) const fn piece(&self) -> usize {
        match self {
            Self::Server(_) => PIECE,
            Self::Cluster(_) => usize::MAX,
        }
    }

    /// Sends commands. A cluster has all replies then.
    pub(crate) fn send(&mut self, commands: &Commands, deadline: Instant) -> Result<(), Error> {
        match self {
            Self::Server(server) => server.1.send(commands.as_bytes(), commands.len(), deadline),
            Self::Cluster(cluster) => cluster.send(commands, deadline),
        }
    }

    /// Reads the reply to the next of the commands sent.
    pub(crate) fn receive(&mut self, deadline: Instant) -> Result<Value, Error> {
        match self {
            Self::Server(server) => server.1.receive(deadline),
            Self::Cluster(cluster) => cluster.receive(),
        }
    }

    /// Whether a reply has come, or a part of one.
    pub(crate) fn has_more(&self) -> bool {
        match self {
            Self::Server(server) => server.1.has_more(),
            Self::Cluster(cluster) => cluster.has_more(),
        }
    }

    /// Asks for the time: sets the clock, and shows that Redis is there.
    pub(crate) fn read_clock(&mut self, deadline: Instant) -> Result<(), Error> {
        match self {
            Self::Server(server) => server.1.read_clock(deadline),
            Self::Cluster(cluster) => cluster.read_clock(deadline),
        }
    }

    /// The server's clock.
    pub(crate) fn clock(&self) -> Clock {
        match self {
            Self::Server(server) => server.1.clock(),
            Self::Cluster(cluster) => cluster.clock(),
        }
    }

    /// The server's version, where it says it.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Server(server) => server.1.version(),
            Self::Cluster(cluster) => cluster.version(),
        }
    }

    /// The server's address; of a cluster, that of one node.
    pub(crate) fn address(&self) -> &Address {
        match self {
            Self::Server(server) => &server.0.address,
            Self::Cluster(cluster) => cluster.address(),
        }
    }
}
