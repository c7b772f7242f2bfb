//! Connections to the nodes of a cluster.
//!
//! Redirections are described in the
//! [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use std::vec;

use redis::Value;

use super::address::Address;
use super::cluster_view;
use super::connection::Connection;
use super::deadline::share;
use super::endpoint::Endpoint;
use super::fence::Fence;
use super::patience::Patience;
use super::redirection::{Redirection, Redirections, Target};
use super::server_clock::ServerClock;
use super::slot_map::SlotMap;
use crate::error::{Error, ErrorKind, ServerCode};
use crate::near::EpochEnd;
use crate::resp::commands::{Commands, Destination};

/// How many redirections a command follows.
const MAX_REDIRECTIONS: usize = 8;

/// Connections to the primaries of a cluster.
///
/// Invariant: no reply is outstanding between two calls. `send` receives all replies of a round, since
/// redirected commands are sent again before their replies can be used.
pub(crate) struct Cluster {
    /// The credentials and TLS of all nodes.
    template: Endpoint,
    nodes: HashMap<Address, Connection>,
    slots: SlotMap,
    /// The node through which the cluster was discovered.
    first: Address,
    replies: VecDeque<Value>,
    fence: Fence,
}

/// A command without its reply yet, and where to send it.
struct PendingCommand<'c> {
    position: usize,
    key: Option<&'c [u8]>,
    bytes: &'c [u8],
    target: Target,
}

impl Cluster {
    /// Discovers the cluster through the first endpoint that answers.
    pub(crate) fn open(
        endpoints: &[Endpoint],
        fence: &Fence,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let mut failure = ErrorKind::Disconnected.into();
        for endpoint in endpoints {
            match Self::discover(endpoint, fence, share(deadline, endpoints.len())) {
                Ok(cluster) => return Ok(cluster),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn discover(endpoint: &Endpoint, fence: &Fence, deadline: Instant) -> Result<Self, Error> {
        let mut connection = Connection::open_fenced(endpoint, fence, deadline)?;
        let reply = connection.command("CLUSTER", &["SLOTS"], deadline)?;
        let slots = SlotMap::parse(&reply, &endpoint.address).ok_or(ErrorKind::Protocol)?;
        if slots.is_empty() {
            return Err(cluster_down());
        }
        let first = endpoint.address.clone();
        Ok(Self {
            template: endpoint.clone(),
            nodes: HashMap::from([(first.clone(), connection)]),
            slots,
            first,
            replies: VecDeque::new(),
            fence: fence.clone(),
        })
    }

    /// Sends each command to the node that has its key, follows redirections, and keeps the replies.
    pub(crate) fn send(&mut self, commands: &Commands, patience: Patience) -> Result<(), Error> {
        let mut pending = Vec::new();
        for (position, (destination, bytes)) in commands.iter().enumerate() {
            pending.push(PendingCommand {
                position,
                key: match destination {
                    Destination::Key(key) => Some(key),
                    Destination::AnyNode | Destination::Node(_) => None,
                },
                bytes,
                target: Target {
                    node: self.node_for(destination, patience.deadline)?,
                    asking: false,
                },
            });
        }
        let mut replies = vec![Value::Nil; commands.len()];
        for _ in 0..=MAX_REDIRECTIONS {
            pending = self.run(pending, &mut replies, patience)?;
            if pending.is_empty() {
                self.replies.extend(replies);
                return Ok(());
            }
        }
        Err(cluster_down())
    }

    /// The next reply.
    pub(crate) fn receive(&mut self) -> Result<Value, Error> {
        self.replies
            .pop_front()
            .ok_or_else(|| ErrorKind::Protocol.into())
    }

    /// Whether replies have been received and not yet taken.
    pub(crate) fn has_buffered(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Sends one pipeline to each node. Returns the commands to run again elsewhere.
    fn run<'c>(
        &mut self,
        pending: Vec<PendingCommand<'c>>,
        replies: &mut [Value],
        patience: Patience,
    ) -> Result<Vec<PendingCommand<'c>>, Error> {
        let mut received = self.run_pipelines(&pending, patience)?;
        let mut redirections = Redirections::default();
        let mut redirected = Vec::new();
        for command in pending {
            let reply = next_reply(&mut received, &command.target)?;
            let redirection = Redirection::parse(&reply, &command.target.node);
            if let (Some(_), Some(tracking)) = (&redirection, &self.template.tracking) {
                tracking.validity.restart(EpochEnd::Redirected);
            }
            if let Some(redirection) = &redirection
                && !redirection.target.asking
            {
                self.slots
                    .update_slot(redirection.slot, &redirection.target.node);
            }
            if let Some(target) = redirections.target_for(command.key, redirection) {
                redirected.push(PendingCommand { target, ..command });
            } else if let Some(place) = replies.get_mut(command.position) {
                *place = reply;
            }
        }
        Ok(redirected)
    }

    /// Sends one pipeline to each node, then receives the replies of each. Nothing is sent before all nodes
    /// are connected.
    fn run_pipelines(
        &mut self,
        pending: &[PendingCommand<'_>],
        patience: Patience,
    ) -> Result<HashMap<Address, vec::IntoIter<Value>>, Error> {
        let mut pipelines: HashMap<&Address, Commands> = HashMap::new();
        for command in pending {
            let pipeline = pipelines.entry(&command.target.node).or_default();
            if command.target.asking {
                pipeline.push_keyless("ASKING", |_| ());
            }
            pipeline.push_packed(command.bytes);
        }
        for node in pipelines.keys() {
            self.connection(node, patience.deadline)?;
        }
        for (node, pipeline) in &mut pipelines {
            self.connection(node, patience.deadline)?
                .send(pipeline, patience)?;
        }
        let mut replies = HashMap::new();
        for node in pipelines.into_keys() {
            let connection = self.connection(node, patience.deadline)?;
            replies.insert(
                node.clone(),
                connection.receive_round(patience)?.into_iter(),
            );
        }
        Ok(replies)
    }

    fn connection(&mut self, node: &Address, deadline: Instant) -> Result<&mut Connection, Error> {
        if !self.nodes.contains_key(node) {
            let endpoint = Endpoint {
                address: node.clone(),
                ..self.template.clone()
            };
            // A node that accepts and stays silent must leave time for its successor.
            let deadline = share(deadline, 2);
            let connection = Connection::open_fenced(&endpoint, &self.fence, deadline)
                .map_err(Error::announced)?;
            if let (None, Some(tracking)) = (connection.confirmed_at(), &self.template.tracking) {
                tracking.validity.end(EpochEnd::Refused);
            }
            self.nodes.insert(node.clone(), connection);
        }
        self.nodes
            .get_mut(node)
            .ok_or_else(|| ErrorKind::Disconnected.into())
    }

    fn node_for(
        &mut self,
        destination: Destination<'_>,
        deadline: Instant,
    ) -> Result<Address, Error> {
        let node = match destination {
            Destination::AnyNode => Some(&self.first),
            Destination::Key(key) => self.slots.node_for(key),
            Destination::Node(id) => {
                if self.slots.node_with_id(id).is_none() {
                    self.read_nodes(deadline)?;
                }
                self.slots.node_with_id(id)
            }
        };
        node.cloned().ok_or_else(cluster_down)
    }

    /// Reads the slots again, and the addresses of all nodes.
    fn read_nodes(&mut self, deadline: Instant) -> Result<(), Error> {
        let first = self.first.clone();
        let connection = self.connection(&first, deadline)?;
        let slots = connection.command("CLUSTER", &["SLOTS"], deadline)?;
        let nodes = connection.command("CLUSTER", &["NODES"], deadline)?;
        self.slots = SlotMap::parse(&slots, &first)
            .zip(cluster_view::addresses(&nodes, &first))
            .map(|(slots, nodes)| slots.with_nodes(nodes))
            .ok_or(ErrorKind::Protocol)?;
        Ok(())
    }

    /// Reads the clock of the first node. The other nodes answer too, so that none closes its connection
    /// for being idle.
    pub(crate) fn read_clock(&mut self, patience: Patience) -> Result<(), Error> {
        let first = self.first.clone();
        self.connection(&first, patience.deadline)?
            .read_clock(patience)?;
        let others: Vec<_> = self
            .nodes
            .keys()
            .filter(|&node| *node != first)
            .cloned()
            .collect();
        others.iter().try_for_each(|node| {
            self.connection(node, patience.deadline)?
                .read_clock(patience)
        })
    }

    pub(crate) fn take_pushes(&mut self) -> Result<(), Error> {
        let mut nodes = self.nodes.values_mut();
        nodes.try_for_each(Connection::take_pushes)
    }

    pub(crate) fn read_pushes(&mut self) -> Result<(), Error> {
        let mut nodes = self.nodes.values_mut();
        nodes.try_for_each(Connection::read_pushes)
    }

    /// When the node was asked that was asked first. `None` if one does not track.
    pub(crate) fn confirmed_at(&self) -> Option<u64> {
        let nodes = self.nodes.values().map(Connection::confirmed_at);
        nodes.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    pub(crate) fn tracking_refusal(&self) -> Option<&Error> {
        self.nodes.values().find_map(Connection::tracking_refusal)
    }

    pub(crate) fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        self.nodes.values().map(Connection::socket).collect()
    }

    /// Whether something was sent that has not been answered.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.nodes.values().any(Connection::is_unfinished)
    }

    pub(crate) fn clock(&self) -> ServerClock {
        self.nodes
            .get(&self.first)
            .map_or_else(|| ServerClock::local(Duration::ZERO), Connection::clock)
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.nodes.get(&self.first)?.version()
    }

    /// The primaries that have slots.
    pub(crate) fn primaries(&self) -> HashSet<&Address> {
        self.slots.primaries()
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.first
    }

    /// Whether the login at the first node is the default user's, though the endpoint names another.
    pub(crate) fn user_is_ignored(&self) -> bool {
        let node = self.nodes.get(&self.first);
        node.is_some_and(Connection::user_is_ignored)
    }
}

/// The reply to the next command that was sent to `target`.
fn next_reply(
    received: &mut HashMap<Address, vec::IntoIter<Value>>,
    target: &Target,
) -> Result<Value, Error> {
    received
        .get_mut(&target.node)
        .and_then(|replies| replies.nth(target.replies() - 1))
        .ok_or_else(|| ErrorKind::Protocol.into())
}

impl Target {
    /// How many replies a command has there.
    const fn replies(&self) -> usize {
        if self.asking { 2 } else { 1 }
    }
}

fn cluster_down() -> Error {
    ErrorKind::Server(ServerCode::cluster_down()).into()
}

mod testing;
#[cfg(test)]
mod tests;
