use super::super::request::Request;
use super::super::testing::*;
use super::*;
use crate::net::testing::{FakeServer, array, bulk};
use crate::operation::{Operation, Outcome, Ping};
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::thread;

const READ_ONLY: &str = "-READONLY You can't write against a read only replica.\r\n";
const FULL_DISK: &str = "-MISCONF Errors writing to the AOF file\r\n";
const OUT_OF_MEMORY: &str = "-OOM command not allowed\r\n";
const NO_VALUE: &str = "$-1\r\n";
const ONE: &str = ":1\r\n";

/// A connection, and what a worker has besides.
struct Fixture {
    shared: Arc<Shared>,
    watch: Option<Arc<PrimaryWatch>>,
    backlog: Backlog,
    live: LiveConnection,
}

type Outcomes = Receiver<Result<Outcome, Error>>;

impl Fixture {
    fn new(server: &FakeServer) -> Self {
        Self::with(shared(options(server)).0, None)
    }

    fn with(shared: Arc<Shared>, watch: Option<Arc<PrimaryWatch>>) -> Self {
        let live = LiveConnection::new(connect(&shared), None);
        Self {
            shared,
            watch,
            backlog: Backlog::default(),
            live,
        }
    }

    fn send(&mut self, operation: Operation) -> Outcomes {
        let (request, outcome) = request(operation);
        self.backlog.push(request);
        self.around(LiveConnection::send).unwrap();
        outcome
    }

    fn receive(&mut self) -> Result<(), Error> {
        self.around(LiveConnection::receive)
    }

    fn around(
        &mut self,
        serve: impl FnOnce(&mut LiveConnection, &mut Surroundings<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut around = Surroundings {
            shared: &self.shared,
            watch: self.watch.as_deref(),
            backlog: &mut self.backlog,
        };
        serve(&mut self.live, &mut around)
    }
}

/// A server that replies like this to reads and writes, and hangs at a ping without a message.
fn server(read: &'static str, write: &'static str) -> FakeServer {
    FakeServer::start(move |words| match words[0].as_str() {
        "GET" => Some(read.to_owned()),
        "PING" if words.len() > 1 => Some(bulk(&words[1])),
        "DEL" => Some(write.to_owned()),
        _ => hang(),
    })
}

fn ping() -> Operation {
    Operation::Ping(Ping)
}

fn read_only() -> Error {
    ErrorKind::Server(ServerCode::read_only()).into()
}

fn long_ago() -> Instant {
    Instant::now() - LONG
}

#[test]
fn an_idle_connection_has_a_heartbeat() {
    let server = server(NO_VALUE, ONE);
    let mut fixture = Fixture::new(&server);
    let due = fixture.live.last_used + HEARTBEAT_INTERVAL;
    assert_eq!(fixture.live.heartbeat_due(), due);
    fixture.live.heartbeat(&fixture.shared).unwrap();
    assert_eq!(server.received("TIME"), 1, "only at the login");
    fixture.live.last_used = long_ago();
    fixture.live.heartbeat(&fixture.shared).unwrap();
    assert_eq!(server.received("TIME"), 2);
    fixture.live.heartbeat(&fixture.shared).unwrap();
    assert_eq!(server.received("TIME"), 2, "not due yet");
}

#[test]
fn knows_whether_it_is_in_use() {
    let mut fixture = Fixture::new(&server(NO_VALUE, ONE));
    fixture.live.last_used = long_ago();
    let now = Instant::now();
    assert!(fixture.live.is_unused_since(now) && !fixture.live.is_unfinished());
    fixture.send(get(1));
    assert!(!fixture.live.is_unused_since(now) && fixture.live.is_unfinished());
    fixture.receive().unwrap();
    assert!(!fixture.live.is_unused_since(now) && !fixture.live.is_unfinished());
}

#[test]
fn receives_what_has_arrived_and_waits_for_no_more() {
    let mut fixture = Fixture::new(&server(NO_VALUE, ONE));
    let (first, _first_outcome) = request(get(1));
    fixture.backlog.push(first);
    let second = fixture.send(get(2));
    let unanswered = fixture.send(ping());
    assert_eq!(fixture.shared.stats.batches.load(Ordering::Relaxed), 2);
    fixture.receive().unwrap();
    assert!(matches!(second.try_recv(), Ok(Ok(Outcome::NotFound))));
    assert!(unanswered.is_empty());
}

#[test]
fn writes_behind_a_rejected_one_are_retried() {
    let mut rejections = vec![READ_ONLY];
    let server = FakeServer::start(move |words| match words[0].as_str() {
        "DEL" => Some(rejections.pop().unwrap_or(ONE).to_owned()),
        "PING" => Some(bulk(&words[1])),
        _ => Some(NO_VALUE.to_owned()),
    });
    let mut fixture = Fixture::new(&server);
    let writes = [delete(1), delete(2)].map(|write| fixture.send(write));
    let read = fixture.send(get(1));
    let mut received = Ok(());
    while !fixture.live.in_flight.is_empty() {
        assert_eq!(received, Ok(()), "before all replies have come");
        received = fixture.receive();
    }
    assert_eq!(received, Err(read_only()));
    assert!(matches!(read.try_recv(), Ok(Ok(Outcome::NotFound))));
    assert!(writes.iter().all(Receiver::is_empty));
    let numbers = [fixture.backlog.number(0), fixture.backlog.number(1)];
    assert_eq!((fixture.backlog.len(), numbers), (2, [0, 1]));
    let refusals: Vec<_> = fixture.backlog.requests().map(Request::refusal).collect();
    assert_eq!(refusals, [Some(read_only()), None]);
}

#[test]
fn only_an_unexpected_reply_ends_the_connection() {
    let mut fixture = Fixture::new(&server(":7\r\n", OUT_OF_MEMORY));
    let write = fixture.send(delete(1));
    fixture.receive().unwrap();
    let rejected = write.try_recv().unwrap().unwrap_err();
    assert_eq!(*rejected.kind(), ErrorKind::Server(ServerCode::new("OOM")));
    let read = fixture.send(get(1));
    let error = fixture.receive().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Protocol);
    assert_eq!(read.try_recv().unwrap().unwrap_err(), error);
}

#[test]
fn waits_for_half_of_the_timeout_and_at_least_a_second() {
    let server = server(NO_VALUE, ONE);
    for (timeout, silence) in [(5_000, 2_500), (1_000, 1_000)] {
        let mut options = options(&server);
        options.timeout = Duration::from_millis(timeout);
        let mut fixture = Fixture::with(shared(options).0, None);
        let silence = Duration::from_millis(silence);
        let before = Instant::now();
        let patience = fixture.live.patience(&fixture.shared);
        assert_eq!(patience.silence, Some(silence));
        assert!((before + silence..=Instant::now() + silence).contains(&patience.deadline));
        fixture.send(ping());
        let patience = fixture.live.patience(&fixture.shared);
        assert!(patience.deadline > before + LONG - TIMEOUT);
    }
}

#[test]
fn further_requests_are_waited_for_while_no_reply_can_arrive() {
    let mut fixture = Fixture::new(&server(NO_VALUE, ONE));
    (0..64).for_each(|_| fixture.live.min_rtt.record(LONG));
    assert_eq!(fixture.live.earliest_reply(2), None, "nothing is in flight");
    // A reply is expected after 20 ms. If the test is too slow, it tries again.
    let waits = (0..100).any(|_| {
        fixture.live.in_flight = InFlight::default();
        fixture.send(ping());
        assert_eq!(fixture.live.earliest_reply(1), None, "nothing to wait for");
        fixture.live.earliest_reply(2).is_some()
    });
    assert!(waits);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(fixture.live.earliest_reply(2), None, "it has passed");
}

fn primary(write: &'static str) -> FakeServer {
    FakeServer::start(move |words| match words[0].as_str() {
        "ROLE" => Some(array(&["master"])),
        _ => Some(write.to_owned()),
    })
}

#[test]
fn the_sentinels_are_asked_when_the_primary_needs_help() {
    for (reply, asked) in [(FULL_DISK, 2), (OUT_OF_MEMORY, 1)] {
        let primary = primary(reply);
        let sentinel = Sentinel::start(primary.port);
        let (shared, watch) = sentinel.shared(&primary);
        let mut fixture = Fixture::with(shared, Some(watch));
        let write = fixture.send(delete(1));
        fixture.receive().unwrap();
        assert!(write.try_recv().unwrap().is_err() && fixture.live.is_accepting());
        assert_eq!(sentinel.server.received("SENTINEL"), asked);
    }
}

#[test]
fn a_primary_that_was_replaced_is_left() {
    let primary = primary(FULL_DISK);
    let sentinel = Sentinel::start(primary.port);
    let (shared, watch) = sentinel.shared(&primary);
    let mut fixture = Fixture::with(shared, Some(watch));
    let write = fixture.send(delete(1));
    sentinel.name(1, 2);
    assert_eq!(fixture.receive(), Err(read_only()));
    assert!(write.is_empty() && fixture.backlog.len() == 1);
}
