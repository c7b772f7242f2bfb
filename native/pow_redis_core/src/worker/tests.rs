//! Tests of a worker without its thread.

use super::bell::Bell;
use super::testing::*;
use super::*;
use crate::error::ServerCode;
use crate::keyspace::testing::no_index;
use crate::net::address::Address;
use crate::net::endpoint::Endpoint;
use crate::net::testing::{FakeServer, array, wait_until};
use crate::operation::{Operation, Outcome, Ping, Reindex, ReindexMode, ScanPosition};
use crate::options::Options;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::thread;

/// A worker, and what ends its queues.
struct Fixture {
    worker: Worker,
    stop: Sender<()>,
    server: FakeServer,
}

type Outcomes = Receiver<Result<Outcome, Error>>;

impl Fixture {
    /// A worker that is not connected, and its server, which hangs at a ping.
    fn new() -> Self {
        let server = FakeServer::start(|words| match words[0].as_str() {
            "GET" => Some("$-1\r\n".to_owned()),
            _ => hang(),
        });
        let (stop, stopped) = bounded(0);
        let queue = Queue::new(bounded(1).1, stopped);
        let worker = Worker::new(shared(options(&server)).0, None, queue);
        Self {
            worker,
            stop,
            server,
        }
    }

    fn connected() -> Self {
        let mut fixture = Self::new();
        assert!(fixture.worker.connect());
        fixture
    }

    fn push(&mut self, operation: Operation) -> Outcomes {
        self.push_until(operation, Instant::now() + LONG)
    }

    fn push_until(&mut self, operation: Operation, deadline: Instant) -> Outcomes {
        let (request, outcome) = request_until(operation, deadline);
        self.worker.backlog.push(request);
        outcome
    }

    /// How the requests of the backlog can be told apart.
    fn backlog(&self) -> Vec<u64> {
        let positions = 0..self.worker.backlog.len();
        positions
            .map(|position| self.worker.backlog.number(position))
            .collect()
    }
}

fn ping() -> Operation {
    Operation::Ping(Ping)
}

fn listing() -> Operation {
    Operation::Reindex(Reindex::new(
        ScanPosition::default(),
        &no_index(),
        ReindexMode::DryRun,
    ))
}

fn failed_with(outcome: &Outcomes, kind: &ErrorKind) -> bool {
    matches!(outcome.try_recv(), Ok(Err(error)) if error.kind() == kind)
}

#[test]
fn counts_the_requests_sent_or_not() {
    let mut fixture = Fixture::connected();
    let _sent = [ping(), ping()].map(|ping| fixture.push(ping));
    fixture.worker.send().unwrap();
    let _waiting = [ping(), ping(), ping()].map(|ping| fixture.push(ping));
    assert_eq!(fixture.worker.requests(), 5);
}

#[test]
fn leaves_the_shared_queue_to_workers_that_can_serve_it() {
    let mut fixture = Fixture::new();
    assert!(fixture.worker.takes_shared(), "no worker is connected");
    let shared = Arc::clone(&fixture.worker.shared);
    shared.availability.connected();
    assert!(!fixture.worker.takes_shared(), "another is connected");
    assert!(fixture.worker.connect());
    assert!(fixture.worker.takes_shared());
    fixture.worker.is_listing = true;
    assert!(fixture.worker.takes_shared(), "no other is free");
    shared.worker_is_free(true);
    assert!(!fixture.worker.takes_shared(), "another is free");
    drop(fixture.stop);
    assert!(fixture.worker.takes_shared(), "the cache is stopping");
}

#[test]
fn pauses_between_the_rounds_of_a_listing_beside_calls() {
    let mut fixture = Fixture::connected();
    let shared = Arc::clone(&fixture.worker.shared);
    let next_round = |fixture: &Fixture| fixture.worker.next_round(Instant::now());
    let now = Instant::now();
    fixture.worker.throttle.sent(now, shared.stats.calls());
    fixture.worker.throttle.received(now + LONG, Duration::ZERO);
    let _listing = fixture.push(listing());
    shared.worker_is_free(true);
    assert_eq!(next_round(&fixture), None, "no calls");
    shared.count_call();
    shared.count_call();
    assert!(next_round(&fixture) > Some(now));
    shared.worker_is_free(false);
    assert_eq!(next_round(&fixture), None, "no other worker is free");
    shared.worker_is_free(true);
    let _late = fixture.push_until(listing(), now + TIMEOUT / 2);
    assert_eq!(next_round(&fixture), None, "half of a timeout has passed");
    fixture.worker.backlog.take(1);
    assert!(next_round(&fixture).is_some());
    let _ping = fixture.push(ping());
    assert_eq!(next_round(&fixture), None, "another request waits");
    fixture.worker.send().unwrap();
    assert_eq!(next_round(&fixture), None, "and is in flight");
}

#[test]
fn tells_whether_it_is_free() {
    let mut fixture = Fixture::connected();
    let free = |fixture: &mut Fixture| {
        fixture.worker.publish_load();
        fixture.worker.shared.free_workers()
    };
    assert_eq!([free(&mut fixture), free(&mut fixture)], [1, 1]);
    let _listing = fixture.push(listing());
    assert_eq!([free(&mut fixture), free(&mut fixture)], [0, 0]);
    fixture.worker.send().unwrap();
    assert_eq!(free(&mut fixture), 0, "it is in flight");
    fixture.worker.backlog.retain(|_| None);
    fixture.worker.connection = None;
    assert_eq!(free(&mut fixture), 0, "without a connection");
}

#[test]
fn without_requests_looks_soon_whether_to_connect() {
    let mut fixture = Fixture::new();
    let before = Instant::now();
    fixture.worker.backoff.failed(before);
    fixture.worker.backoff.failed(before + LONG);
    let due = fixture.worker.next_due();
    assert!((before + DEMAND_INTERVAL..=Instant::now() + DEMAND_INTERVAL).contains(&due));
    let fixture = Fixture::connected();
    let live = fixture.worker.connection.as_ref().unwrap();
    assert_eq!(fixture.worker.next_due(), live.heartbeat_due());
}

#[test]
fn answers_expired_requests_and_drops_cancelled_ones() {
    let mut fixture = Fixture::new();
    let expired = fixture.push_until(ping(), Instant::now());
    let _waiting = fixture.push(ping());
    let (cancelled, no_outcome) = request_until(ping(), Instant::now() + LONG);
    assert!(cancelled.cancel_handle().cancel());
    fixture.worker.backlog.push(cancelled);
    let (refused, refused_outcome) = request_until(ping(), Instant::now());
    refused.refused(ErrorKind::Busy.into());
    fixture.worker.backlog.push(refused);
    fixture.worker.drop_expired();
    assert!(failed_with(&expired, &ErrorKind::Timeout));
    assert!(failed_with(&refused_outcome, &ErrorKind::Busy));
    assert_eq!(fixture.backlog(), [1]);
    assert!(no_outcome.recv().is_err());
}

/// A worker whose next try is due if it has a reason to hurry.
fn backing_off() -> Fixture {
    let mut fixture = Fixture::new();
    let a_second_ago = Instant::now() - Duration::from_secs(1);
    (0..20).for_each(|_| fixture.worker.backoff.failed(a_second_ago));
    fixture
}

#[test]
fn connects_sooner_while_callers_wait() {
    let mut fixture = backing_off();
    assert!(!fixture.worker.connect() && fixture.worker.connection.is_none());
    let _outcome = fixture.push(ping());
    assert!(fixture.worker.connect() && fixture.worker.connection.is_some());
    let mut fixture = backing_off();
    fixture.worker.shared.availability.ask();
    assert!(fixture.worker.connect(), "the caller's request was refused");
}

#[test]
fn while_it_backs_off_only_a_final_failure_is_an_answer() {
    let soon = || Instant::now() + Duration::from_millis(1);
    for (failure, answered) in [(ErrorKind::Url, true), (ErrorKind::Disconnected, false)] {
        let mut fixture = Fixture::new();
        let outcome = fixture.push_until(ping(), soon());
        fixture.worker.shared.failed(&failure.clone().into());
        fixture.worker.wait_for_backoff(Instant::now(), soon());
        assert_eq!(failed_with(&outcome, &failure), answered);
    }
    let mut fixture = Fixture::new();
    let outcome = fixture.push(ping());
    drop(fixture.stop);
    let now = Instant::now();
    fixture.worker.wait_for_backoff(now, now + LONG);
    assert!(failed_with(&outcome, &ErrorKind::Closed));
}

#[test]
fn gives_up_if_it_cannot_connect_while_the_cache_stops() {
    let nowhere = Endpoint::new(Address::Unix("/no/such/folder/redis.sock".into()));
    let mut fixture = Fixture::new();
    fixture.worker.shared = shared(Options::for_endpoint(nowhere)).0;
    let outcome = fixture.push(ping());
    assert!(!fixture.worker.connect() && outcome.is_empty());
    drop(fixture.stop);
    assert!(!fixture.worker.connect());
    assert!(failed_with(&outcome, &ErrorKind::Closed));
}

#[test]
fn answers_requests_that_cannot_be_retried() {
    let mut fixture = Fixture::connected();
    let now = Instant::now();
    fixture.worker.backoff.failed(now);
    let late = fixture.push_until(ping(), now);
    let retried = fixture.push(ping());
    fixture
        .worker
        .fail_unretryable(&ErrorKind::Disconnected.into());
    assert!(failed_with(&late, &ErrorKind::Disconnected));
    assert!(retried.is_empty());
    fixture.worker.fail_unretryable(&ErrorKind::Url.into());
    assert!(failed_with(&retried, &ErrorKind::Url));
}

#[test]
fn answers_all_requests_in_an_outage_longer_than_a_call() {
    let server = FakeServer::start(|_| None);
    let mut options = options(&server);
    options.timeout = Duration::ZERO;
    let mut fixture = Fixture::new();
    fixture.worker.shared = shared(options).0;
    let outcome = fixture.push(ping());
    fixture
        .worker
        .fail_unretryable(&ErrorKind::Disconnected.into());
    assert!(failed_with(&outcome, &ErrorKind::Disconnected));
}

#[test]
fn gives_up_a_request_that_was_under_way_in_two_lost_connections() {
    for (error, given_up_with) in [
        (ErrorKind::Disconnected, Some(ErrorKind::ConnectionLost)),
        (ErrorKind::Timeout, Some(ErrorKind::ConnectionLost)),
        (ErrorKind::Protocol, Some(ErrorKind::Protocol)),
        (ErrorKind::Server(ServerCode::read_only()), None),
    ] {
        let mut fixture = Fixture::new();
        let outcome = fixture.push(ping());
        for _ in 0..2 {
            assert!(outcome.is_empty());
            assert!(fixture.worker.connect());
            fixture.worker.send().unwrap();
            assert_eq!(fixture.worker.disconnect(&error.clone().into()), 1);
            assert!(fixture.worker.connection.is_none());
        }
        let answer = outcome.try_recv().ok().and_then(Result::err);
        assert_eq!(answer.map(|error| error.kind().clone()), given_up_with);
        assert_eq!(fixture.worker.disconnect(&error.into()), 0, "not connected");
    }
}

#[test]
fn a_lost_connection_makes_others_suspect() {
    for (error, is_suspect) in [
        (ErrorKind::Disconnected, true),
        (ErrorKind::Server(ServerCode::read_only()), false),
    ] {
        let mut fixture = Fixture::connected();
        let _sent = fixture.push(ping());
        fixture.worker.send().unwrap();
        fixture.worker.on_connection_lost(&error.into());
        assert_eq!(fixture.backlog(), [0]);
        let failure = fixture.worker.shared.availability.last_failure();
        assert_eq!(failure.is_some(), is_suspect);
        let retries = &fixture.worker.shared.stats.retries;
        assert_eq!(retries.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn drops_an_idle_connection_when_another_has_failed() {
    let mut fixture = Fixture::connected();
    fixture.worker.drop_suspected_connection();
    assert!(fixture.worker.connection.is_some());
    // Longer than the precision of the stored time.
    thread::sleep(Duration::from_millis(20));
    fixture.worker.shared.availability.suspect();
    fixture.worker.drop_suspected_connection();
    assert!(fixture.worker.connection.is_none());
}

/// Whether a worker with two pings under way stops waiting for more before a reply can arrive, if Redis says
/// this.
fn stops_waiting_for_more(says: &str) -> bool {
    let server = FakeServer::tracking(|_| hang());
    let mut options = options(&server);
    options.max_staleness = Some(LONG);
    let (stop, stopped) = bounded(0);
    let queue = Queue::new(bounded(1).1, stopped).with_bell(Some(Bell::new().unwrap()));
    let worker = Worker::new(shared(options).0, None, queue).tracking();
    let mut fixture = Fixture {
        worker,
        stop,
        server,
    };
    assert!(fixture.worker.connect());
    let _outcomes = [fixture.push(ping()), fixture.push(ping())];
    let live = fixture.worker.connection.as_mut().unwrap();
    live.record_round_trips(LONG);
    fixture.worker.send().unwrap();
    fixture.server.say(says);
    assert!(!fixture.worker.coalesce());
    let live = fixture.worker.connection.as_ref().unwrap();
    live.earliest_reply(2).is_some()
}

#[test]
fn does_not_wait_for_more_requests_once_redis_tells_of_a_change() {
    assert!(!stops_waiting_for_more(""));
    let told = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n";
    // The wait is short.
    wait_until(|| stops_waiting_for_more(told));
}

#[test]
fn a_call_that_waited_in_vain_is_the_last_one_to_wait() {
    let mut fixture = Fixture::connected();
    let shared = Arc::clone(&fixture.worker.shared);
    let outcome = fixture.push(ping());
    // Longer than the precision of the stored time.
    thread::sleep(Duration::from_millis(20));
    shared.availability.suspect();
    fixture.worker.drop_suspected_connection();
    assert!(outcome.try_recv().is_err(), "it may wait for a connection");
    assert!(fixture.worker.connect());
    thread::sleep(Duration::from_millis(20));
    shared.availability.suspect();
    shared.waited_in_vain(Instant::now() + shared.options.timeout);
    fixture.worker.drop_suspected_connection();
    assert!(failed_with(&outcome, &ErrorKind::Disconnected));
}

#[test]
fn leaves_a_primary_that_was_replaced() {
    let primary = FakeServer::start(|_| Some(array(&["master"])));
    let sentinel = Sentinel::start(primary.port);
    let (shared, watch) = sentinel.shared(&primary);
    let mut fixture = Fixture::new();
    fixture.worker.shared = shared;
    fixture.worker.watch = Some(Arc::clone(&watch));
    assert!(fixture.worker.connect());
    sentinel.name(1, 2);
    watch.ask_now().unwrap();
    fixture.worker.leave_superseded();
    let live = fixture.worker.connection.as_ref().unwrap();
    assert!(!live.is_accepting());
}
