//! Connections to the nodes of a cluster.
//!
//! Redirections are described in the
//! [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};
use std::vec;

use redis::Value;

use super::address::Address;
use super::connection::Connection;
use super::deadline::share;
use super::endpoint::Endpoint;
use super::fence::Fence;
use super::patience::Patience;
use super::server_clock::ServerClock;
use super::slot_map::SlotMap;
use crate::error::{Error, ErrorKind, ServerCode};
use crate::resp::commands::Commands;

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

/// A command without its reply yet, and the node to send it to.
struct PendingCommand<'c> {
    position: usize,
    bytes: &'c [u8],
    node: Address,
    /// Whether `ASKING` comes before it.
    asking: bool,
}

/// `MOVED` or `ASK`.
#[derive(Debug, PartialEq, Eq)]
struct Redirection {
    slot: u16,
    node: Address,
    /// Whether it is for this command only.
    asking: bool,
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
        let mut connection = Connection::open(endpoint, deadline)?;
        connection.fence(fence, deadline)?;
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
        for (position, (key, bytes)) in commands.iter().enumerate() {
            pending.push(PendingCommand {
                position,
                bytes,
                node: self.node_for(key)?,
                asking: false,
            });
        }
        let mut replies = vec![Value::Nil; commands.len()];
        for _ in 0..=MAX_REDIRECTIONS {
            if pending.is_empty() {
                self.replies.extend(replies);
                return Ok(());
            }
            pending = self.run(pending, &mut replies, patience)?;
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

    /// Sends one pipeline to each node. Returns the commands that were redirected.
    fn run<'c>(
        &mut self,
        pending: Vec<PendingCommand<'c>>,
        replies: &mut [Value],
        patience: Patience,
    ) -> Result<Vec<PendingCommand<'c>>, Error> {
        let mut received = self.run_pipelines(&pending, patience)?;
        let mut redirected = Vec::new();
        for command in pending {
            let node_replies = received.get_mut(&command.node).ok_or(ErrorKind::Protocol)?;
            if command.asking {
                node_replies.next();
            }
            let reply = node_replies.next().ok_or(ErrorKind::Protocol)?;
            if let Some(redirection) = Redirection::parse(&reply, &command.node) {
                if !redirection.asking {
                    self.slots.update_slot(redirection.slot, &redirection.node);
                }
                redirected.push(PendingCommand {
                    node: redirection.node,
                    asking: redirection.asking,
                    ..command
                });
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
            let pipeline = pipelines.entry(&command.node).or_default();
            if command.asking {
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
            let mut connection = Connection::open(&endpoint, deadline).map_err(Error::announced)?;
            connection.fence(&self.fence, deadline)?;
            self.nodes.insert(node.clone(), connection);
        }
        self.nodes
            .get_mut(node)
            .ok_or_else(|| ErrorKind::Disconnected.into())
    }

    fn node_for(&self, key: Option<&[u8]>) -> Result<Address, Error> {
        match key {
            None => Ok(self.first.clone()),
            Some(key) => self.slots.node_for(key).cloned().ok_or_else(cluster_down),
        }
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

fn cluster_down() -> Error {
    ErrorKind::Server(ServerCode::cluster_down()).into()
}

impl Redirection {
    /// Parses an error reply of `from`.
    fn parse(reply: &Value, from: &Address) -> Option<Self> {
        let Value::ServerError(error) = reply else {
            return None;
        };
        let asking = match error.code() {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let (slot, node) = error.details()?.split_once(' ')?;
        let (host, port) = node.rsplit_once(':')?;
        let host = match (host, from) {
            ("", Address::Tcp { host, .. }) => host,
            _ => host,
        };
        let node = Address::Tcp {
            host: host.to_owned(),
            port: port.parse().ok()?,
        };
        Some(Self {
            slot: slot.parse().ok()?,
            node,
            asking,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    fn address(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    /// The only node of a cluster: numbers what it is asked.
    fn node() -> (Endpoint, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:{port}\r\n");
        let handle = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut asked = 0;
            while let Some(Ok(words)) = lines.next() {
                let number: usize = words[1..].parse().unwrap();
                let words: Vec<_> = lines.by_ref().take(2 * number).collect();
                let reply = match words[1].as_deref().unwrap() {
                    "INFO" => "$22\r\nredis_version:7.0.15\r\n\r\n".to_owned(),
                    "TIME" => "*2\r\n$4\r\n1700\r\n$6\r\n500000\r\n".to_owned(),
                    "CLUSTER" => slots.clone(),
                    "CLIENT" => "-ERR unknown command\r\n".to_owned(),
                    "ECHO" => format!("$16\r\n{}\r\n", words[3].as_deref().unwrap()),
                    _ => {
                        asked += 1;
                        format!(":{asked}\r\n")
                    }
                };
                (&stream).write_all(reply.as_bytes()).unwrap();
            }
        });
        (Endpoint::new(address("127.0.0.1", port)), handle)
    }

    #[test]
    fn replies_keep_the_order_of_the_commands() {
        let (endpoint, handle) = node();
        let soon = Instant::now() + Duration::from_secs(30);
        let mut cluster = Cluster::open(&[endpoint], &Fence::default(), soon).unwrap();
        for number in [2, 1] {
            let mut commands = Commands::new();
            for _ in 0..number {
                commands.push("GET", b"key", |_| ());
            }
            cluster.send(&commands, soon.into()).unwrap();
        }
        for number in [1, 2, 3] {
            assert!(cluster.has_buffered());
            assert_eq!(cluster.receive(), Ok(Value::Int(number)));
        }
        assert!(!cluster.has_buffered());
        drop(cluster);
        handle.join().unwrap();
    }

    #[test]
    fn parses_redirections() {
        let from = address("10.0.0.1", 7000);
        let parse = |text: &str| {
            let reply = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            Redirection::parse(&reply, &from)
        };
        assert_eq!(
            parse("MOVED 3999 127.0.0.1:6381"),
            Some(Redirection {
                slot: 3999,
                node: address("127.0.0.1", 6381),
                asking: false,
            })
        );
        assert_eq!(
            parse("ASK 3999 :6381"),
            Some(Redirection {
                slot: 3999,
                node: address("10.0.0.1", 6381),
                asking: true,
            })
        );
        assert_eq!(parse("CLUSTERDOWN The cluster is down"), None);
        assert_eq!(Redirection::parse(&Value::Okay, &from), None);
    }
}
