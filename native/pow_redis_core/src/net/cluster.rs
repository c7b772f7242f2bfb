//! Connections to the nodes of a cluster.
//!
//! Redirections are described in the
//! [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

use std::collections::{HashMap, HashSet, VecDeque};
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

#[cfg(test)]
mod tests {
    use super::super::slot_map::slot;
    use super::super::testing::FakeServer;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};
    use std::thread;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn address(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    /// What a node does with a command.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Act {
        Run,
        Moved(usize),
        Ask(usize),
        TryAgain,
        Down,
        Silent,
    }

    /// The commands that were run: the node, whether `ASKING` came before it, and its words after the name.
    type Log = Arc<Mutex<Vec<(usize, bool, String)>>>;

    /// A cluster in which a function decides what each node does. The first node has all slots.
    struct FakeCluster {
        nodes: Vec<FakeServer>,
        log: Log,
    }

    impl FakeCluster {
        fn start(number: usize, decide: impl FnMut(usize, &str) -> Act + Send + 'static) -> Self {
            let listeners: Vec<_> = (0..number)
                .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
                .collect();
            let ports: Vec<_> = listeners
                .iter()
                .map(|listener| listener.local_addr().unwrap().port())
                .collect();
            let (log, decide) = (Log::default(), Arc::new(Mutex::new(decide)));
            let nodes = listeners.into_iter().enumerate().map(|(node, listener)| {
                let (log, decide, ports) = (Arc::clone(&log), Arc::clone(&decide), ports.clone());
                let mut asked = false;
                FakeServer::serve(listener, move |words| {
                    let asking = std::mem::take(&mut asked);
                    match words[0].as_str() {
                        "CLUSTER" => {
                            let port = ports[0];
                            let slots = "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n";
                            return Some(format!("{slots}:{port}\r\n"));
                        }
                        "ASKING" => {
                            asked = true;
                            return Some("+OK\r\n".to_owned());
                        }
                        _ => {}
                    }
                    let rest = words[1..].join(" ");
                    let slot = slot(words.get(1).map_or(b"", |key| key.as_bytes()));
                    match decide.lock().unwrap()(node, &rest) {
                        Act::Run => {
                            let mut log = log.lock().unwrap();
                            log.push((node, asking, rest));
                            Some(format!(":{}\r\n", log.len()))
                        }
                        Act::Moved(to) => Some(format!("-MOVED {slot} :{}\r\n", ports[to])),
                        Act::Ask(to) => Some(format!("-ASK {slot} :{}\r\n", ports[to])),
                        Act::TryAgain => Some("-TRYAGAIN Multiple keys\r\n".to_owned()),
                        Act::Down => Some("-CLUSTERDOWN The cluster is down\r\n".to_owned()),
                        Act::Silent => None,
                    }
                })
            });
            Self {
                nodes: nodes.collect(),
                log,
            }
        }

        fn connect(&self) -> Cluster {
            Cluster::open(&[self.nodes[0].endpoint()], &Fence::default(), soon()).unwrap()
        }

        fn log(&self) -> Vec<(usize, bool, String)> {
            self.log.lock().unwrap().clone()
        }
    }

    fn entry(node: usize, asking: bool, text: &str) -> (usize, bool, String) {
        (node, asking, text.to_owned())
    }

    /// Writes, each of a key and a value.
    fn writes<'a>(writes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Commands {
        let mut commands = Commands::new();
        for (key, value) in writes {
            commands.push("SET", key.as_bytes(), |command| {
                command.arg(value);
            });
        }
        commands
    }

    fn receive_all(cluster: &mut Cluster) -> Vec<Value> {
        std::iter::from_fn(|| cluster.has_buffered().then(|| cluster.receive().unwrap())).collect()
    }

    /// Sends commands, of which the given nodes redirect these once.
    fn send_with(
        acts: &[(usize, &'static str, Act)],
        commands: &Commands,
    ) -> (FakeCluster, Vec<Value>) {
        let mut acts = acts.to_vec();
        let cluster = FakeCluster::start(3, move |node, text| {
            let act = |(at, of, _): &(usize, &str, Act)| *at == node && *of == text;
            let position = acts.iter().position(act);
            position.map_or(Act::Run, |position| acts.remove(position).2)
        });
        let mut client = cluster.connect();
        client.send(commands, soon().into()).unwrap();
        let replies = receive_all(&mut client);
        (cluster, replies)
    }

    /// Another key in the slot of `a`.
    const NEIGHBOUR: &str = "n9396";

    #[test]
    fn replies_keep_the_order_of_the_commands() {
        let cluster = FakeCluster::start(1, |_, _| Act::Run);
        let mut client = cluster.connect();
        for number in [2, 1] {
            client
                .send(&writes(vec![("a", "1"); number]), soon().into())
                .unwrap();
        }
        for number in [1, 2, 3] {
            assert!(client.has_buffered());
            assert_eq!(client.receive(), Ok(Value::Int(number)));
        }
        assert!(!client.has_buffered());
        assert_eq!(client.receive(), Err(ErrorKind::Protocol.into()));
    }

    #[test]
    fn a_later_write_of_a_moved_key_runs_again() {
        let commands = writes([("a", "1"), ("b", "1"), ("a", "2")]);
        let (cluster, replies) = send_with(&[(0, "a 1", Act::Moved(1))], &commands);
        let expected = [
            entry(0, false, "b 1"),
            entry(0, false, "a 2"),
            entry(1, false, "a 1"),
            entry(1, false, "a 2"),
        ];
        assert_eq!(cluster.log(), expected);
        assert_eq!(replies, [3, 1, 4].map(Value::Int));
    }

    #[test]
    fn a_later_write_of_an_asked_key_runs_again_with_asking() {
        let commands = writes([("a", "1"), (NEIGHBOUR, "1"), ("a", "2")]);
        let (cluster, replies) = send_with(&[(0, "a 1", Act::Ask(1))], &commands);
        let expected = [
            // The other keys of the slot have not moved yet.
            entry(0, false, &format!("{NEIGHBOUR} 1")),
            entry(0, false, "a 2"),
            entry(1, true, "a 1"),
            entry(1, true, "a 2"),
        ];
        assert_eq!(cluster.log(), expected);
        assert_eq!(replies, [3, 1, 4].map(Value::Int));
    }

    #[test]
    fn the_neighbour_is_in_the_same_slot() {
        assert_eq!(slot(NEIGHBOUR.as_bytes()), slot(b"a"));
    }

    #[test]
    fn a_slot_moves_with_all_its_keys() {
        let commands = writes([("a", "1"), (NEIGHBOUR, "1")]);
        let (cluster, _) = send_with(&[(0, "a 1", Act::Moved(1))], &commands);
        let text = format!("{NEIGHBOUR} 1");
        let expected = [
            entry(0, false, &text),
            entry(1, false, "a 1"),
            entry(1, false, &text),
        ];
        assert_eq!(cluster.log(), expected);
    }

    #[test]
    fn writes_of_a_key_that_are_redirected_apart_stay_together() {
        let acts = [
            (0, "a 1", Act::Moved(1)),
            (0, "a 2", Act::Moved(2)),
            (1, "a 1", Act::Ask(2)),
        ];
        let (cluster, replies) = send_with(&acts, &writes([("a", "1"), ("a", "2")]));
        let expected = [
            entry(1, false, "a 2"),
            entry(2, true, "a 1"),
            entry(2, true, "a 2"),
        ];
        assert_eq!(cluster.log(), expected);
        assert_eq!(replies, [2, 3].map(Value::Int));
    }

    #[test]
    fn a_moved_slot_is_remembered() {
        let mut once = Some(Act::Moved(1));
        let cluster = FakeCluster::start(2, move |_, _| once.take().unwrap_or(Act::Run));
        let mut client = cluster.connect();
        for _ in 0..2 {
            client.send(&writes([("a", "1")]), soon().into()).unwrap();
        }
        assert_eq!(
            cluster.log(),
            [entry(1, false, "a 1"), entry(1, false, "a 1")]
        );
        assert_eq!(client.primaries().len(), 2);
    }

    #[test]
    fn an_asked_slot_is_not_remembered() {
        let mut once = Some(Act::Ask(1));
        let cluster = FakeCluster::start(2, move |_, _| once.take().unwrap_or(Act::Run));
        let mut client = cluster.connect();
        for _ in 0..2 {
            client.send(&writes([("a", "1")]), soon().into()).unwrap();
        }
        assert_eq!(
            cluster.log(),
            [entry(1, true, "a 1"), entry(0, false, "a 1")]
        );
    }

    #[test]
    fn other_error_replies_are_final() {
        let acts = [(0, "a 1", Act::TryAgain), (0, "b 1", Act::Down)];
        let commands = writes([("a", "1"), ("b", "1"), ("a", "2")]);
        let (cluster, replies) = send_with(&acts, &commands);
        assert_eq!(cluster.log(), [entry(0, false, "a 2")]);
        let codes: Vec<_> = replies
            .iter()
            .map(|reply| match reply {
                Value::ServerError(error) => error.code(),
                _ => "",
            })
            .collect();
        assert_eq!(codes, ["TRYAGAIN", "CLUSTERDOWN", ""]);
    }

    #[test]
    fn redirections_are_followed_so_often() {
        for (number, outcome) in [(8, Ok(())), (9, Err(cluster_down()))] {
            let mut left = number;
            let cluster = FakeCluster::start(2, move |node, _| {
                left -= 1;
                if left >= 0 {
                    Act::Moved(1 - node)
                } else {
                    Act::Run
                }
            });
            let sent = cluster.connect().send(&writes([("a", "1")]), soon().into());
            assert_eq!(sent, outcome, "{number}");
            assert_eq!(cluster.log().len(), usize::from(outcome.is_ok()));
        }
    }

    #[test]
    fn keyless_commands_go_to_the_first_node() {
        let mut once = Some(Act::Ask(1));
        let cluster = FakeCluster::start(2, move |_, _| once.take().unwrap_or(Act::Run));
        let mut client = cluster.connect();
        let mut commands = Commands::new();
        for _ in 0..2 {
            commands.push_keyless("PING", |_| ());
        }
        client.send(&commands, soon().into()).unwrap();
        assert_eq!(cluster.log(), [entry(0, false, ""), entry(1, true, "")]);
        let first = &cluster.nodes[0].endpoint().address;
        assert_eq!(client.address(), first);
        assert_eq!(client.version(), Some("Redis 7.0.15"));
    }

    #[test]
    fn a_silent_node_is_a_timeout() {
        let cluster = FakeCluster::start(2, |node, _| {
            if node == 0 {
                Act::Moved(1)
            } else {
                Act::Silent
            }
        });
        let deadline = Instant::now() + Duration::from_millis(500);
        let sent = cluster
            .connect()
            .send(&writes([("a", "1")]), deadline.into());
        assert_eq!(sent, Err(ErrorKind::Timeout.into()));
        assert!(Instant::now() >= deadline);
    }

    #[test]
    fn a_node_that_does_not_greet_leaves_time() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = silent
            .local_addr()
            .map(|address| (silent, address.port()))
            .unwrap();
        let cluster = FakeCluster::start(1, |_, _| Act::Run);
        let mut client = cluster.connect();
        client
            .slots
            .update_slot(slot(b"a"), &address("127.0.0.1", silent.1));
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(4);
        let sent = thread::spawn(move || client.send(&writes([("a", "1")]), deadline.into()));
        assert_eq!(sent.join().unwrap(), Err(ErrorKind::Timeout.into()));
        assert!((begin + Duration::from_secs(2)..deadline).contains(&Instant::now()));
    }

    #[test]
    fn the_first_endpoint_that_answers_is_used() {
        let refusing = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let refusing = Endpoint::new(address("127.0.0.1", refusing.port()));
        let cluster = FakeCluster::start(1, |_, _| Act::Run);
        let endpoints = [refusing.clone(), cluster.nodes[0].endpoint()];
        let client = Cluster::open(&endpoints, &Fence::default(), soon()).unwrap();
        assert_eq!(client.address(), &endpoints[1].address);
        let failed = Cluster::open(&[refusing], &Fence::default(), soon());
        assert_eq!(failed.err(), Some(ErrorKind::Disconnected.into()));
    }

    #[test]
    fn a_cluster_without_slots_is_down() {
        let server = FakeServer::start(|_| Some("*0\r\n".to_owned()));
        let outcome = Cluster::open(&[server.endpoint()], &Fence::default(), soon());
        assert_eq!(outcome.err(), Some(cluster_down()));
    }

    #[test]
    fn a_key_without_a_node_is_down() {
        let cluster = FakeCluster::start(1, |_, _| Act::Run);
        let mut client = cluster.connect();
        client.slots = SlotMap::parse(&Value::Array(vec![]), &client.first).unwrap();
        let sent = client.send(&writes([("a", "1")]), soon().into());
        assert_eq!(sent, Err(cluster_down()));
    }

    #[test]
    fn the_clocks_of_all_connected_nodes_are_read() {
        let cluster = FakeCluster::start(3, |node, text| match (node, text) {
            (0, "a 1") => Act::Moved(1),
            _ => Act::Run,
        });
        let mut client = cluster.connect();
        client
            .send(&writes([("a", "1"), ("b", "1")]), soon().into())
            .unwrap();
        let reads = || -> Vec<_> {
            let nodes = cluster.nodes.iter();
            nodes.map(|node| node.received("TIME")).collect()
        };
        let before = reads();
        // Nothing was sent to the third node, so it has no connection.
        assert_eq!(before[2], 0);
        client.read_clock(soon().into()).unwrap();
        let after: Vec<_> = before.iter().map(|reads| reads + 1).collect();
        assert_eq!(reads(), [after[0], after[1], 0]);
        assert!((1_700_500..1_760_500).contains(&client.clock().now_ms()));
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => Just(Act::Run),
            2 => (0..3_usize).prop_map(Act::Moved),
            2 => (0..3_usize).prop_map(Act::Ask),
            1 => Just(Act::TryAgain),
            1 => Just(Act::Down),
        ]
    }

    /// Each case connects a few times, so there are few unless `PROPTEST_CASES` is set.
    fn config() -> ProptestConfig {
        let default = ProptestConfig::default();
        let is_configured = std::env::var_os("PROPTEST_CASES").is_some();
        ProptestConfig {
            cases: if is_configured { default.cases } else { 32 },
            failure_persistence: None,
            ..default
        }
    }

    proptest! {
        #![proptest_config(config())]

        /// Writes are retried as a worker does it: after a retryable reply, that one and all later ones are
        /// sent again.
        #[test]
        fn the_last_write_of_a_key_stands(
            keys in proptest::collection::vec(0..3_usize, 1..12),
            acts in proptest::collection::vec(act(), 0..40),
        ) {
            let names = ["a", NEIGHBOUR, "b"];
            let mut acts = acts.into_iter();
            let cluster = FakeCluster::start(3, move |_, _| acts.next().unwrap_or(Act::Run));
            let values: Vec<_> = (0..keys.len()).map(|value| value.to_string()).collect();
            let all: Vec<_> = keys
                .iter()
                .zip(&values)
                .map(|(&key, value)| (names[key], value.as_str()))
                .collect();
            let mut left = all.as_slice();
            while !left.is_empty() {
                let mut client = cluster.connect();
                // After too many redirections all of them are sent again.
                if client.send(&writes(left.iter().copied()), soon().into()).is_ok() {
                    let replies = receive_all(&mut client);
                    prop_assert_eq!(replies.len(), left.len());
                    let is_error = |reply: &Value| matches!(reply, Value::ServerError(_));
                    let done = replies.iter().position(is_error).unwrap_or(left.len());
                    left = &left[done..];
                }
            }
            let log = cluster.log();
            let expected: HashMap<_, _> = all.iter().copied().collect();
            for (key, value) in expected {
                let runs = log.iter().filter_map(|(_, _, text)| text.split_once(' '));
                let last = runs.rev().find(|(run, _)| *run == key);
                prop_assert_eq!(last, Some((key, value)));
            }
        }
    }
}
