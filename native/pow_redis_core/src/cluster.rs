//! A Redis Cluster: which node has a key, and connections to the nodes.
//!
//! The protocol is described at <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use redis::Value;

use crate::address::Address;
use crate::clock::Clock;
use crate::commands::Commands;
use crate::connection::Connection;
use crate::deadline::share;
use crate::error::{Error, ErrorKind, ServerCode};
use crate::server::Server;

const SLOTS: u16 = 16_384;
/// How often one command follows a redirection.
const MAX_REDIRECTIONS: usize = 8;

/// Connections to the masters of a cluster.
///
/// Invariant: between two calls no reply is under way. `send` reads all replies of a round, since
/// those that redirect are sent again before anybody sees them.
pub(crate) struct Cluster {
    template: Server,
    nodes: HashMap<Address, Connection>,
    ranges: Vec<Range>,
    first: Address,
    replies: VecDeque<Value>,
}

/// Slots from `start` to `end`, both included, and the master that has them.
struct Range {
    start: u16,
    end: u16,
    master: Address,
}

/// Where a command goes next.
struct Errand<'c> {
    position: usize,
    bytes: &'c [u8],
    node: Address,
    asking: bool,
}

impl Cluster {
    /// Asks the servers in turn for the cluster's slots.
    pub(crate) fn open(servers: &[Server], deadline: Instant) -> Result<Self, Error> {
        let mut failure = ErrorKind::Disconnected.into();
        for server in servers {
            match Self::open_through(server, share(deadline, servers.len())) {
                Ok(cluster) => return Ok(cluster),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn open_through(server: &Server, deadline: Instant) -> Result<Self, Error> {
        let mut connection = Connection::open(server, deadline)?;
        let slots = connection.ask("CLUSTER", &["SLOTS"], deadline)?;
        let ranges = read_ranges(&slots, &server.address).ok_or(ErrorKind::Protocol)?;
        if ranges.is_empty() {
            return Err(ErrorKind::Server(ServerCode::cluster_down()).into());
        }
        let first = server.address.clone();
        Ok(Self {
            template: server.clone(),
            nodes: HashMap::from([(first.clone(), connection)]),
            ranges,
            first,
            replies: VecDeque::new(),
        })
    }

    /// Sends each command to the node that has its key, follows redirections, and keeps the replies.
    pub(crate) fn send(&mut self, commands: &Commands, deadline: Instant) -> Result<(), Error> {
        let mut errands = Vec::new();
        for (position, bytes) in commands.iter().enumerate() {
            errands.push(Errand {
                position,
                bytes,
                node: self.node_of(bytes)?,
                asking: false,
            });
        }
        let mut replies = vec![Value::Nil; commands.len()];
        for _ in 0..=MAX_REDIRECTIONS {
            if errands.is_empty() {
                self.replies.extend(replies);
                return Ok(());
            }
            errands = self.run(errands, &mut replies, deadline)?;
        }
        Err(ErrorKind::Server(ServerCode::cluster_down()).into())
    }

    /// The next reply.
    pub(crate) fn receive(&mut self) -> Result<Value, Error> {
        self.replies
            .pop_front()
            .ok_or_else(|| ErrorKind::Protocol.into())
    }

    /// Whether replies are to be taken.
    pub(crate) fn has_more(&self) -> bool {
        !self.replies.is_empty()
    }

    /// One pipeline for each node. What redirects comes back as errands.
    fn run<'c>(
        &mut self,
        errands: Vec<Errand<'c>>,
        replies: &mut [Value],
        deadline: Instant,
    ) -> Result<Vec<Errand<'c>>, Error> {
        // Bytes, and how many replies they will get.
        let mut pipelines: HashMap<Address, (Vec<u8>, usize)> = HashMap::new();
        for errand in &errands {
            let (pipeline, replies) = pipelines.entry(errand.node.clone()).or_default();
            if errand.asking {
                pipeline.extend(b"*1\r\n$6\r\nASKING\r\n");
                *replies += 1;
            }
            pipeline.extend(errand.bytes);
            *replies += 1;
        }
        for (node, (pipeline, replies)) in &pipelines {
            self.connection(node, deadline)?
                .send(pipeline, *replies, deadline)?;
        }
        let mut redirected = Vec::new();
        for errand in errands {
            let connection = self.connection(&errand.node, deadline)?;
            if errand.asking {
                connection.receive(deadline)?;
            }
            let reply = connection.receive(deadline)?;
            match redirection(&reply, &errand.node) {
                Some((slot, node, asking)) => {
                    if !asking {
                        self.learn(slot, &node);
                    }
                    redirected.push(Errand {
                        node,
                        asking,
                        ..errand
                    });
                }
                None => {
                    if let Some(place) = replies.get_mut(errand.position) {
                        *place = reply;
                    }
                }
            }
        }
        Ok(redirected)
    }

    fn connection(&mut self, node: &Address, deadline: Instant) -> Result<&mut Connection, Error> {
        if !self.nodes.contains_key(node) {
            let server = Server {
                address: node.clone(),
                ..self.template.clone()
            };
            // A node that accepts and says nothing must leave time for its successor.
            let connection = Connection::open(&server, share(deadline, 2))?;
            self.nodes.insert(node.clone(), connection);
        }
        self.nodes
            .get_mut(node)
            .ok_or_else(|| ErrorKind::Disconnected.into())
    }

    fn node_of(&self, command: &[u8]) -> Result<Address, Error> {
        let Some(key) = key_of(command) else {
            return Ok(self.first.clone());
        };
        let slot = slot(&key);
        // What was learned last stands last.
        self.ranges
            .iter()
            .rev()
            .find(|range| (range.start..=range.end).contains(&slot))
            .map(|range| range.master.clone())
            .ok_or_else(|| ErrorKind::Server(ServerCode::cluster_down()).into())
    }

    fn learn(&mut self, slot: u16, master: &Address) {
        self.ranges
            .retain(|range| (range.start, range.end) != (slot, slot));
        self.ranges.push(Range {
            start: slot,
            end: slot,
            master: master.clone(),
        });
    }

    /// Asks the node through which the cluster was found for the time.
    pub(crate) fn read_clock(&mut self, deadline: Instant) -> Result<(), Error> {
        let first = self.first.clone();
        self.connection(&first, deadline)?.read_clock(deadline)?;
        // The others must not be closed for being idle.
        let others: Vec<_> = self
            .nodes
            .keys()
            .filter(|&node| *node != first)
            .cloned()
            .collect();
        others
            .iter()
            .try_for_each(|node| self.connection(node, deadline)?.read_clock(deadline))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.nodes
            .get(&self.first)
            .map_or_else(|| Clock::local(Duration::ZERO), Connection::clock)
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.nodes.get(&self.first)?.version()
    }

    /// How many masters have slots.
    pub(crate) fn masters(&self) -> usize {
        let masters: HashSet<_> = self.ranges.iter().map(|range| &range.master).collect();
        masters.len()
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.first
    }
}

/// The first argument of a command, where it is a key.
fn key_of(command: &[u8]) -> Option<Vec<u8>> {
    let Ok(Value::Array(arguments)) = redis::parse_redis_value(command) else {
        return None;
    };
    match arguments.as_slice() {
        [Value::BulkString(name), Value::BulkString(key), ..] if name != b"SCAN" => {
            Some(key.clone())
        }
        _ => None,
    }
}

/// `CLUSTER SLOTS`: start, end, and the nodes, the master first. A node without address is the one
/// that was asked.
fn read_ranges(slots: &Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(ranges) = slots else {
        return None;
    };
    ranges
        .iter()
        .map(|range| {
            let Value::Array(range) = range else {
                return None;
            };
            let [Value::Int(start), Value::Int(end), Value::Array(master), ..] = range.as_slice()
            else {
                return None;
            };
            let [host, Value::Int(port), ..] = master.as_slice() else {
                return None;
            };
            let host = match (host, asked) {
                (Value::BulkString(host), _) if !host.is_empty() => {
                    String::from_utf8(host.clone()).ok()?
                }
                (_, Address::Tcp { host, .. }) => host.clone(),
                _ => return None,
            };
            Some(Range {
                start: u16::try_from(*start).ok()?,
                end: u16::try_from(*end).ok()?,
                master: Address::Tcp {
                    host,
                    port: u16::try_from(*port).ok()?,
                },
            })
        })
        .collect()
}

/// Slot, node, and whether to ask there only this once.
fn redirection(reply: &Value, from: &Address) -> Option<(u16, Address, bool)> {
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
    Some((slot.parse().ok()?, node, asking))
}

/// The slot of a key. Our keys hold no braces, so that the whole key counts.
fn slot(key: &[u8]) -> u16 {
    crc16(key) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
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
    fn node() -> (Server, thread::JoinHandle<()>) {
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
                    _ => {
                        asked += 1;
                        format!(":{asked}\r\n")
                    }
                };
                (&stream).write_all(reply.as_bytes()).unwrap();
            }
        });
        let url = format!("redis://127.0.0.1:{port}");
        (Server::from_url(&url).unwrap(), handle)
    }

    #[test]
    fn replies_come_in_the_order_of_all_commands() {
        let (server, handle) = node();
        let soon = Instant::now() + Duration::from_secs(30);
        let mut cluster = Cluster::open(&[server], soon).unwrap();
        for number in [2, 1] {
            let mut commands = Commands::new();
            for _ in 0..number {
                commands.push("GET", |command| {
                    command.arg("key");
                });
            }
            cluster.send(&commands, soon).unwrap();
        }
        for number in [1, 2, 3] {
            assert!(cluster.has_more());
            assert_eq!(cluster.receive(), Ok(Value::Int(number)));
        }
        assert!(!cluster.has_more());
        drop(cluster);
        handle.join().unwrap();
    }

    #[test]
    fn slots_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn redirections() {
        let from = address("10.0.0.1", 7000);
        let error =
            |text: &str| redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        assert_eq!(
            redirection(&error("MOVED 3999 127.0.0.1:6381"), &from),
            Some((3999, address("127.0.0.1", 6381), false))
        );
        assert_eq!(
            redirection(&error("ASK 3999 :6381"), &from),
            Some((3999, address("10.0.0.1", 6381), true))
        );
        assert_eq!(
            redirection(&error("CLUSTERDOWN The cluster is down"), &from),
            None
        );
        assert_eq!(redirection(&Value::Okay, &from), None);
    }

    #[test]
    fn keys_of_commands() {
        assert_eq!(
            key_of(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
            Some(b"k".to_vec())
        );
        assert_eq!(key_of(b"*1\r\n$4\r\nPING\r\n"), None);
    }
}
