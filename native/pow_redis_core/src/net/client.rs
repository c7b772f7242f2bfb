//! The connection to Redis, whatever the topology.

use std::time::Instant;

use redis::Value;

use super::address::Address;
use super::cluster::Cluster;
use super::config::{ConnectConfig, Topology};
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::primary_watch::PrimaryWatch;
use super::sentinel;
use super::server_clock::ServerClock;
use crate::error::{Error, ErrorKind};
use crate::resp::commands::Commands;

/// Redis reads 16 kB at a time, and runs the first commands while the next ones are being written.
const BATCH_BYTES: usize = 16 << 10;

/// A connection to one server, or connections to the nodes of a cluster. Drop it after any error but an
/// error reply.
pub(crate) enum Client {
    /// With the epoch of the configuration in which sentinels named the server.
    Standalone(Box<(Endpoint, Connection, Option<u64>)>),
    Cluster(Box<Cluster>),
}

impl Client {
    /// Resolves the endpoints and connects.
    pub(crate) fn connect(config: &ConnectConfig, deadline: Instant) -> Result<Self, Error> {
        let endpoints = config.endpoints(deadline)?;
        let first = || endpoints.first().ok_or(ErrorKind::Url);
        match &config.topology {
            Topology::Standalone => {
                let endpoint = first()?.clone();
                let connection = Connection::open(&endpoint, deadline)?;
                Ok(Self::Standalone(Box::new((endpoint, connection, None))))
            }
            Topology::Sentinel { sentinels, group } => {
                let (endpoint, connection, epoch) =
                    sentinel::connect_to_primary(sentinels, group, first()?, deadline)?;
                Ok(Self::Standalone(Box::new((
                    endpoint,
                    connection,
                    Some(epoch),
                ))))
            }
            Topology::Cluster => {
                let cluster = Cluster::open(&endpoints, deadline)?;
                Ok(Self::Cluster(Box::new(cluster)))
            }
        }
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
    pub(crate) fn send(&mut self, commands: &Commands, deadline: Instant) -> Result<(), Error> {
        match self {
            Self::Standalone(server) => {
                server.1.send(commands.as_bytes(), commands.len(), deadline)
            }
            Self::Cluster(cluster) => cluster.send(commands, deadline),
        }
    }

    /// Receives the reply to the next command sent.
    pub(crate) fn receive(&mut self, deadline: Instant) -> Result<Value, Error> {
        match self {
            Self::Standalone(server) => server.1.receive(deadline),
            Self::Cluster(cluster) => cluster.receive(),
        }
    }

    /// Whether a reply, or part of one, is buffered.
    pub(crate) fn has_buffered(&self) -> bool {
        match self {
            Self::Standalone(server) => server.1.has_buffered(),
            Self::Cluster(cluster) => cluster.has_buffered(),
        }
    }

    /// Reads the server's clock, which also shows that the server answers.
    pub(crate) fn read_clock(&mut self, deadline: Instant) -> Result<(), Error> {
        match self {
            Self::Standalone(server) => server.1.read_clock(deadline),
            Self::Cluster(cluster) => cluster.read_clock(deadline),
        }
    }

    /// The server's clock.
    pub(crate) fn clock(&self) -> ServerClock {
        match self {
            Self::Standalone(server) => server.1.clock(),
            Self::Cluster(cluster) => cluster.clock(),
        }
    }

    /// Whether the sentinels name another primary now.
    pub(crate) fn is_superseded(&self, watch: &PrimaryWatch) -> bool {
        match self {
            Self::Standalone(server) => server
                .2
                .is_some_and(|epoch| watch.superseded(&server.0.address, epoch)),
            Self::Cluster(_) => false,
        }
    }

    /// The server's product and version, if it reports them.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Standalone(server) => server.1.version(),
            Self::Cluster(cluster) => cluster.version(),
        }
    }

    /// The server's address; on a cluster, the address of one node.
    pub(crate) fn address(&self) -> &Address {
        match self {
            Self::Standalone(server) => &server.0.address,
            Self::Cluster(cluster) => cluster.address(),
        }
    }
}
