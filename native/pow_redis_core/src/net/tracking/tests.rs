use super::super::address::Address;
use super::super::connection::Connection;
use super::super::endpoint::Endpoint;
use super::super::fence::Fence;
use super::super::testing::{CLOSE, FakeServer, bulk, soon, wait_until};
use super::*;
use redis::Value;
use rustix::event::{PollFd, PollFlags, poll};
use std::sync::atomic::{AtomicUsize, Ordering};

const PROTOCOL_3: &str = "%1\r\n$5\r\nproto\r\n:3\r\n";
const INVALIDATED: &str = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n";

/// What a server says about itself, by the last word of the question.
type Words = fn(&str, usize) -> String;

/// A server that tracks, and replies to its `n`-th question like this.
fn server(says: Words) -> FakeServer {
    let questions = AtomicUsize::new(0);
    FakeServer::scripted(move |words| {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Some(match words[..] {
            ["HELLO", "3"] => PROTOCOL_3.to_owned(),
            ["CLIENT", "TRACKING", "ON"] => "+OK\r\n".to_owned(),
            ["CLIENT", ..] => "-ERR unknown subcommand\r\n".to_owned(),
            ["ECHO", nonce] => bulk(nonce),
            ["TIME"] => "*2\r\n$4\r\n1700\r\n$1\r\n0\r\n".to_owned(),
            ["INFO" | "CLUSTER", asked] => says(asked, questions.fetch_add(1, Ordering::Relaxed)),
            _ => ":1\r\n".to_owned(),
        })
    })
}

fn endpoint(server: &FakeServer, is_cluster: bool) -> (Endpoint, Arc<Validity>) {
    // Asks with each round.
    let validity = Arc::new(Validity::new(Duration::ZERO));
    validity.begin();
    let tracking = Tracking {
        validity: Arc::clone(&validity),
        is_cluster,
    };
    let endpoint = Endpoint {
        tracking: Some(tracking),
        ..server.endpoint()
    };
    (endpoint, validity)
}

fn open(endpoint: &Endpoint) -> Result<Connection, Error> {
    Connection::open_fenced(endpoint, &Fence::default(), soon())
}

fn primary(asked: &str, _question: usize) -> String {
    bulk(match asked {
        "server" => "redis_version:7.0.15\r\nrun_id:abc\r\n",
        _ => "# Replication\r\nrole:master\r\n",
    })
}

fn ping(connection: &mut Connection) -> Result<Value, Error> {
    connection.command("PING", &[], soon())
}

#[test]
fn asks_the_server_about_itself_with_the_commands_of_a_round() {
    let server = server(primary);
    let (endpoint, validity) = endpoint(&server, false);
    let mut connection = open(&endpoint).unwrap();
    let before = connection.confirmed_at().unwrap();
    wait_until(|| boot_clock::now_us() > before);
    assert_eq!(ping(&mut connection), Ok(Value::Int(1)));
    assert!(connection.confirmed_at().unwrap() > before);
    assert!(validity.is_tracking() && connection.tracking_refusal().is_none());
    assert_eq!(server.received("HELLO"), 1);
}

#[test]
fn takes_what_is_told_before_a_round_is_sent() {
    let server = server(primary);
    let (endpoint, validity) = endpoint(&server, false);
    let mut connection = open(&endpoint).unwrap();
    server.say(INVALIDATED);
    wait_until(|| {
        connection.read_pushes().unwrap();
        validity.invalidations() == 1
    });
    let (first, rest) = INVALIDATED.split_at(20);
    server.say(first);
    connection.read_pushes().unwrap();
    server.say(rest);
    assert_eq!(ping(&mut connection), Ok(Value::Int(1)));
    wait_until(|| {
        connection.read_pushes().unwrap();
        validity.invalidations() == 2
    });
}

#[test]
fn anything_else_that_nobody_asked_for_ends_the_connection() {
    let server = server(primary);
    let (endpoint, _validity) = endpoint(&server, false);
    let mut connection = open(&endpoint).unwrap();
    server.say(":1\r\n");
    wait_until(|| connection.read_pushes() == Err(ErrorKind::Protocol.into()));
    assert!(connection.is_unfinished());
}

#[test]
fn a_server_that_is_no_primary_any_more_is_left() {
    let demoted = |asked: &str, question| match (asked, question) {
        ("replication", 4..) => bulk("role:slave\r\n"),
        _ => primary(asked, question),
    };
    let restarted = |asked: &str, question| match (asked, question) {
        ("server", 4..) => bulk("run_id:def\r\n"),
        _ => primary(asked, question),
    };
    let refused = |asked: &str, question| match question {
        4.. => "-NOPERM no permission\r\n".to_owned(),
        _ => primary(asked, question),
    };
    let words: [Words; 3] = [demoted, restarted, refused];
    for says in words {
        let server = server(says);
        let (endpoint, validity) = endpoint(&server, false);
        let mut connection = open(&endpoint).unwrap();
        while ping(&mut connection).is_ok() {
            assert!(validity.is_tracking());
        }
        assert!(!validity.is_tracking());
        assert_eq!(validity.ends(), [0, 0, 1, 0, 0, 0]);
        assert!(connection.is_unfinished());
    }
}

const NODES: &str = "a 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-99\n\
                     b 127.0.0.1:3@4 master - 0 0 2 connected 100-16383\n";

fn node(asked: &str, _question: usize) -> String {
    match asked {
        "server" => primary(asked, 0),
        "NODES" => bulk(NODES),
        _ => bulk("cluster_state:ok\r\ncluster_slots_ok:16384\r\n"),
    }
}

#[test]
fn a_node_that_has_lost_a_slot_starts_a_new_epoch() {
    let moved = |asked: &str, question| match (asked, question) {
        ("NODES", 3..) => bulk(&NODES.replace("0-99", "0-98").replace("100-", "99-")),
        _ => node(asked, question),
    };
    let server = server(moved);
    let (endpoint, validity) = endpoint(&server, true);
    let mut connection = open(&endpoint).unwrap();
    assert!(ping(&mut connection).is_ok() && ping(&mut connection).is_ok());
    assert!(validity.is_tracking());
    assert_eq!(validity.ends(), [0, 0, 0, 0, 1, 0]);
}

#[test]
fn a_node_that_does_not_reach_most_of_its_cluster_is_left() {
    let minority = |asked: &str, question| match (asked, question) {
        ("INFO", 3..) => bulk("cluster_state:fail\r\n"),
        _ => node(asked, question),
    };
    let server = server(minority);
    let (endpoint, validity) = endpoint(&server, true);
    let mut connection = open(&endpoint).unwrap();
    assert!(ping(&mut connection).is_err());
    assert_eq!(validity.ends(), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn what_a_node_tells_need_not_be_read_in_time() {
    let servers: [(Words, bool); 2] = [(primary, false), (node, true)];
    for (says, is_cluster) in servers {
        let server = server(says);
        let (endpoint, validity) = endpoint(&server, is_cluster);
        let connection = open(&endpoint).unwrap();
        server.say(INVALIDATED);
        let socket = PollFd::from_borrowed_fd(connection.socket(), PollFlags::IN);
        assert_eq!(poll(&mut [socket], None), Ok(1));
        let arrivals = validity.arrivals();
        let looks = [1_000, 2_000, 3_000].map(|now| arrivals.are_read_in_time(now));
        assert_eq!(looks, [true, is_cluster, is_cluster]);
    }
}

/// A server that replies to `HELLO` like this.
fn refusing(reply: &'static str) -> FakeServer {
    FakeServer::start(move |words| {
        Some(if words[0] == "HELLO" { reply } else { ":1\r\n" }.to_owned())
    })
}

#[test]
fn a_server_may_refuse_to_track() {
    for reply in [
        "-ERR unknown command 'HELLO'\r\n",
        "-NOPERM no permission\r\n",
        CLOSE,
    ] {
        let server = refusing(reply);
        let (endpoint, _validity) = endpoint(&server, false);
        let mut connection = open(&endpoint).unwrap();
        assert!(connection.confirmed_at().is_none(), "{reply}");
        assert!(connection.tracking_refusal().is_some(), "{reply}");
        assert_eq!(ping(&mut connection), Ok(Value::Int(1)), "{reply}");
    }
}

#[test]
fn a_replica_is_not_tracked() {
    let replica = |asked: &str, question| match asked {
        "replication" => bulk("role:slave\r\n"),
        _ => primary(asked, question),
    };
    let server = server(replica);
    let (endpoint, _validity) = endpoint(&server, false);
    let mut connection = open(&endpoint).unwrap();
    let refusal = connection.tracking_refusal().map(Error::kind).cloned();
    assert_eq!(refusal, Some(ErrorKind::Server(ServerCode::read_only())));
    assert!(connection.confirmed_at().is_none() && ping(&mut connection).is_ok());
}

#[test]
fn an_endpoint_tracks_only_if_it_is_to() {
    let server = server(primary);
    let connection = open(&server.endpoint()).unwrap();
    assert!(connection.confirmed_at().is_none() && connection.tracking_refusal().is_none());
    assert_eq!(server.received("HELLO"), 0);
    assert!(matches!(server.endpoint().address, Address::Tcp { .. }));
}
