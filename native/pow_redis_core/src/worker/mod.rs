//! A thread that owns a connection to Redis and serves requests over it.

mod availability;
mod backlog;
mod backoff;
mod connector;
mod in_flight;
mod live_connection;
pub(crate) mod queue;
pub(crate) mod quota;
pub(crate) mod request;
mod rtt;
pub(crate) mod shared;
#[cfg(test)]
mod testing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::backlog::Backlog;
use self::backoff::Backoff;
use self::connector::Connector;
use self::live_connection::{LiveConnection, Surroundings};
use self::queue::Queue;
use self::request::Request;
use self::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::net::fence::Fence;
use crate::net::primary_watch::PrimaryWatch;

/// The most requests that a worker holds.
const MAX_REQUESTS: usize = 4_096;
/// A request that is under way while this many connections in a row are lost is the reason for it.
const MAX_LOSSES: u32 = 2;
/// How often a worker without a connection looks whether it should try to connect sooner.
const DEMAND_INTERVAL: Duration = Duration::from_millis(250);

/// A thread that owns a connection to Redis and serves requests over it.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// Which primary the sentinels name, if there are sentinels.
    watch: Option<Arc<PrimaryWatch>>,
    queue: Queue,
    backlog: Backlog,
    connection: Option<LiveConnection>,
    connected_before: bool,
    backoff: Backoff,
    fence: Fence,
    /// Whether one of the requests lists many keys.
    is_listing: bool,
    /// What [`Worker::publish_load`] last published.
    is_free: bool,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, watch: Option<Arc<PrimaryWatch>>, queue: Queue) -> Self {
        Self {
            shared,
            watch,
            queue,
            backlog: Backlog::default(),
            connection: None,
            connected_before: false,
            backoff: Backoff::new(),
            fence: Fence::default(),
            is_listing: false,
            is_free: false,
        }
    }

    /// Serves requests until the cache stops and the queues are empty.
    pub(crate) fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.run_once())) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => self.recover(),
            }
        }
        self.disconnect(&ErrorKind::Closed.into());
        self.publish_load();
    }

    /// Receives requests and serves them. Returns `false` when there will be no more.
    fn run_once(&mut self) -> bool {
        self.publish_load();
        if !self.receive() {
            return false;
        }
        self.drop_expired();
        self.drop_suspected_connection();
        self.leave_superseded();
        if self.connection.is_some() || self.connect() {
            match self.process() {
                Ok(()) => {
                    let connection = self.connection.as_ref();
                    if connection.is_some_and(LiveConnection::is_accepting) {
                        self.backoff.succeeded();
                    }
                }
                Err(error) => self.on_connection_lost(&error),
            }
        }
        true
    }

    /// After a panic, nothing is known about what was sent and received.
    fn recover(&mut self) {
        let error = ErrorKind::WorkerPanicked.into();
        self.disconnect(&error);
        self.backoff.failed(Instant::now());
        self.backlog.retain(|request| {
            let outcome = Err(error.clone());
            // If a reply callback panics, the other requests are still completed.
            let _ = catch_unwind(AssertUnwindSafe(|| request.complete(outcome)));
            None
        });
    }

    /// Receives the queued requests. Without anything to do, waits. Returns `false` when there will be no
    /// more requests.
    fn receive(&mut self) -> bool {
        if self.requests() == 0 {
            let (takes_shared, deadline) = (self.takes_shared(), self.next_due());
            let spins = self.connection.is_some();
            if let Some(request) = self.queue.wait(takes_shared, deadline, spins) {
                self.backlog.push(request);
            }
        }
        self.receive_queued();
        let idle = self.requests() == 0 && self.queue.is_empty();
        !(idle && self.queue.is_closed())
    }

    fn receive_queued(&mut self) {
        let room = MAX_REQUESTS.saturating_sub(self.requests());
        self.queue
            .receive(self.takes_shared(), room, &mut self.backlog);
    }

    /// Receives more requests while no reply can arrive yet. Returns whether it received any.
    fn coalesce(&mut self) -> bool {
        let requests = self.requests();
        let connection = self.connection.as_ref();
        let earliest = connection.and_then(|live| live.earliest_reply(requests));
        let takes_shared = self.takes_shared();
        let Some(request) =
            earliest.and_then(|earliest| self.queue.wait(takes_shared, earliest, false))
        else {
            return false;
        };
        self.backlog.push(request);
        self.receive_queued();
        true
    }

    /// The number of requests, sent or not.
    fn requests(&self) -> usize {
        let in_flight = self.connection.as_ref().map(|live| live.in_flight.len());
        self.backlog.len() + in_flight.unwrap_or(0)
    }

    /// Whether to receive from the queue that all workers share. A worker without a connection leaves it
    /// to those that have one, and a worker that lists many keys to those that are free. If no worker is
    /// connected, all receive, so that callers get the reason.
    fn takes_shared(&self) -> bool {
        let others_serve = if self.connection.is_none() {
            self.shared.availability.is_up()
        } else {
            self.is_listing && self.shared.free_workers() > 0
        };
        !others_serve || self.queue.is_closed()
    }

    /// Tells the other workers whether this one can serve what they leave.
    fn publish_load(&mut self) {
        let in_flight = self
            .connection
            .iter()
            .flat_map(|live| live.in_flight.requests());
        let mut requests = in_flight.chain(self.backlog.requests());
        self.is_listing = requests.any(|request| request.operation.is_listing());
        let is_free = self.connection.is_some() && !self.is_listing;
        if is_free != self.is_free {
            self.is_free = is_free;
            self.shared.worker_is_free(is_free);
        }
    }

    /// Until when to wait for requests.
    fn next_due(&self) -> Instant {
        match &self.connection {
            Some(live) => live.heartbeat_due(),
            None => self
                .backoff
                .next(false)
                .min(Instant::now() + DEMAND_INTERVAL),
        }
    }

    /// Drops cancelled requests, and answers those whose deadline has passed.
    fn drop_expired(&mut self) {
        let now = Instant::now();
        let shared = &self.shared;
        self.backlog.retain(|request| {
            if request.deadline() <= now {
                request.complete(Err(shared.timeout_error()));
                None
            } else {
                request.is_waiting().then_some(request)
            }
        });
    }

    /// Connects if it is time to. Otherwise waits until then, or until a request's deadline.
    fn connect(&mut self) -> bool {
        let now = Instant::now();
        let is_asked = !self.backlog.is_empty() || self.shared.availability.is_asked();
        let next = self.backoff.next(is_asked);
        if next > now {
            self.wait_for_backoff(now, next);
            return false;
        }
        let config = &self.shared.options.connect;
        match Connector::new(config, &self.fence).connect(now + config.timeout) {
            Ok(client) => {
                self.shared.connected(&client, self.connected_before);
                if let Some(watch) = &self.watch {
                    client.tell(watch);
                }
                self.connection = Some(LiveConnection::new(client));
                self.connected_before = true;
                true
            }
            Err(error) => {
                self.backoff.failed(now);
                self.shared.failed(&error);
                self.fail_unretryable(&error);
                if self.queue.is_closed() {
                    self.complete_all(&ErrorKind::Closed.into());
                }
                false
            }
        }
    }

    fn wait_for_backoff(&mut self, now: Instant, next: Instant) {
        let failure = self.shared.availability.failure();
        if let Some(failure) = failure.filter(|error| !error.is_retryable()) {
            self.complete_all(&failure);
        }
        if let Some(deadline) = self.backlog.requests().map(Request::deadline).min() {
            let wait = deadline.min(next).saturating_duration_since(now);
            if self.queue.closes_within(wait) {
                self.complete_all(&ErrorKind::Closed.into());
            }
        }
    }

    /// Completes the requests that cannot be retried, or not in time. After an outage of a call's timeout,
    /// callers wait for one try only.
    fn fail_unretryable(&mut self, error: &Error) {
        let next = self.backoff.next(true);
        let gives_up = !error.is_retryable() || self.shared.is_down();
        self.backlog.retain(|request| {
            if gives_up || request.deadline() <= next {
                request.complete(Err(error.clone()));
                None
            } else {
                Some(request)
            }
        });
    }

    /// Sends the backlog, and receives what has arrived. Without any request, sends a heartbeat if it is
    /// due.
    fn process(&mut self) -> Result<(), Error> {
        let idle = self.requests() == 0;
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        if idle {
            return connection.heartbeat(&self.shared);
        }
        if connection.is_accepting() {
            self.send()?;
            while self.coalesce() {
                self.send()?;
            }
        }
        self.with_connection(LiveConnection::receive)
    }

    fn send(&mut self) -> Result<(), Error> {
        self.with_connection(LiveConnection::send)
    }

    fn with_connection(
        &mut self,
        serve: impl FnOnce(&mut LiveConnection, &mut Surroundings<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut around = Surroundings {
            shared: &self.shared,
            watch: self.watch.as_deref(),
            backlog: &mut self.backlog,
        };
        match &mut self.connection {
            Some(connection) => serve(connection, &mut around),
            None => Ok(()),
        }
    }

    /// Stops using a server that is no primary any more according to the sentinels.
    fn leave_superseded(&mut self) {
        if let (Some(connection), Some(watch)) = (&mut self.connection, &self.watch) {
            connection.leave_superseded(watch);
        }
    }

    /// When another worker's connection has failed, one that has not been used since may have failed as well.
    /// No request should have to find out.
    fn drop_suspected_connection(&mut self) {
        let failure = self.shared.availability.last_failure();
        let connection = self.connection.as_ref().zip(failure);
        if connection.is_some_and(|(live, failure)| live.is_unused_since(failure)) {
            self.disconnect(&ErrorKind::Disconnected.into());
        }
    }

    /// After an error the position in the stream is unknown. Requests in flight are sent again over the
    /// next connection.
    fn on_connection_lost(&mut self, error: &Error) {
        if !error.keeps_connection() {
            self.shared.availability.suspect();
        }
        let requeued = self.disconnect(error);
        self.backoff.failed(Instant::now());
        let retries = u64::try_from(requeued).unwrap_or(u64::MAX);
        self.shared
            .stats
            .retries
            .fetch_add(retries, Ordering::Relaxed);
        self.backlog.reset();
        self.fail_unretryable(error);
    }

    /// Drops the connection and requeues the requests in flight, but for those that were under way in too
    /// many lost connections. Returns how many there were. The server may have run their commands or not.
    fn disconnect(&mut self, error: &Error) -> usize {
        let Some(mut connection) = self.connection.take() else {
            return 0;
        };
        self.shared.availability.lost();
        let was_under_way = connection.is_unfinished() && !error.keeps_connection();
        connection
            .in_flight
            .requeue_all(&mut self.backlog, |mut request| {
                if was_under_way && request.count_loss() >= MAX_LOSSES {
                    request.complete(Err(reason_to_give_up(error)));
                    return None;
                }
                Some(request)
            })
    }

    fn complete_all(&mut self, error: &Error) {
        self.backlog.retain(|request| {
            request.complete(Err(error.clone()));
            None
        });
    }
}

/// Why a request is given up that was under way in too many lost connections, the last one lost with
/// `error`.
fn reason_to_give_up(error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::Timeout => ErrorKind::ConnectionLost.into(),
        _ => error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::error::ServerCode;
    use crate::keyspace::testing::no_index;
    use crate::net::address::Address;
    use crate::net::endpoint::Endpoint;
    use crate::net::testing::{FakeServer, array};
    use crate::operation::{Operation, Outcome, Ping, Reindex, ReindexMode, ScanPosition};
    use crate::options::Options;
    use crossbeam_channel::{Receiver, Sender, bounded};
    use std::thread;

    /// A worker, and what ends its queues.
    struct Fixture {
        worker: Worker,
        stop: Sender<()>,
        _server: FakeServer,
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
                _server: server,
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
        fixture.worker.drop_expired();
        assert!(failed_with(&expired, &ErrorKind::Timeout));
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
}
