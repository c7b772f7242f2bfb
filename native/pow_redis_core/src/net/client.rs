//! The connection to Redis, whatever the topology.

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
