use super::super::slot_map::slot;
use super::super::testing::{FakeServer, soon};
use super::testing::{Act, FakeCluster};
use super::*;
use proptest::prelude::*;
use std::net::TcpListener;
use std::thread;

fn address(host: &str, port: u16) -> Address {
    Address::Tcp {
        host: host.to_owned(),
        port,
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
    let mut client = cluster.connect();
    assert!(!client.is_unfinished());
    let sent = client.send(&writes([("a", "1")]), deadline.into());
    assert_eq!(sent, Err(ErrorKind::Timeout.into()));
    assert!(client.is_unfinished());
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
