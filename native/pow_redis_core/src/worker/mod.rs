//! A thread that owns a connection to Redis and serves requests over it.

mod availability;
mod backlog;
mod backoff;
pub(crate) mod bell;
mod connector;
mod in_flight;
mod live_connection;
pub(crate) mod queue;
pub(crate) mod quota;
pub(crate) mod request;
mod rtt;
pub(crate) mod shared;
mod signal;
mod testing;
#[cfg(test)]
mod tests;
mod throttle;
mod trust;

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
use self::throttle::Throttle;
use crate::error::{Error, ErrorKind};
use crate::near::Validity;
use crate::net::config::ConnectConfig;
use crate::net::fence::Fence;
use crate::net::primary_watch::PrimaryWatch;
use crate::net::tracking::Tracking;

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
    throttle: Throttle,
    /// What its reads are valid by, if its connection is to track them.
    validity: Option<Arc<Validity>>,
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
            throttle: Throttle::new(),
            validity: None,
            is_free: false,
        }
    }

    /// The same, with a connection that tracks what is read, if there is a near cache.
    #[must_use]
    pub(crate) fn tracking(mut self) -> Self {
        self.validity.clone_from(&self.shared.validity);
        self
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
        self.shared.report_epoch_ends();
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
            self.wait();
        }
        self.receive_queued();
        let idle = self.requests() == 0 && self.queue.is_empty();
        !(idle && self.queue.is_closed())
    }

    /// Waits until there is something to do.
    fn wait(&mut self) {
        let spins = self.connection.is_some();
        self.wait_until(self.next_due(), self.takes_shared(), spins);
    }

    /// Waits for a request, or until Redis tells of changed keys. Nothing may be under way.
    fn wait_until(&mut self, deadline: Instant, takes_shared: bool, spins: bool) {
        self.with_idle_connection(LiveConnection::take_pushes);
        let connection = self.connection.as_ref();
        let sockets = connection.map(LiveConnection::watched_sockets);
        let sockets = sockets.unwrap_or_default();
        match self.queue.wait(takes_shared, deadline, spins, &sockets) {
            // Before it is sent, what Redis has told is taken.
            Some(request) => self.backlog.push(request),
            None => self.with_idle_connection(LiveConnection::read_pushes),
        }
    }

    /// Uses the connection, if there is one, while nothing is asked.
    fn with_idle_connection(&mut self, run: impl FnOnce(&mut LiveConnection) -> Result<(), Error>) {
        if let Some(Err(error)) = self.connection.as_mut().map(run) {
            self.on_connection_lost(&error);
        }
    }

    fn receive_queued(&mut self) {
        let room = MAX_REQUESTS.saturating_sub(self.requests());
        self.queue
            .receive(self.takes_shared(), room, &mut self.backlog);
    }

    /// Receives more requests while no reply can arrive yet, and Redis tells nothing. Returns whether it
    /// received any.
    fn coalesce(&mut self) -> bool {
        let Some(live) = &self.connection else {
            return false;
        };
        let Some(earliest) = live.earliest_reply(self.requests()) else {
            return false;
        };
        let sockets = live.watched_sockets();
        let takes_shared = self.takes_shared();
        let Some(request) = self.queue.wait(takes_shared, earliest, false, &sockets) else {
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
                shared.waited_in_vain(request.deadline());
                let error = shared.timeout_error(request.refusal());
                request.complete(Err(error));
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
        let config = self.connect_config();
        match Connector::new(&config, &self.fence).connect(now + config.timeout) {
            Ok(client) => {
                self.shared.connected(&client, self.connected_before);
                if let Some(watch) = &self.watch {
                    client.tell(watch);
                }
                if let Some(refusal) = client.tracking_refusal() {
                    self.shared.report_refusal(refusal);
                }
                self.connection = Some(LiveConnection::new(client, self.validity.as_ref()));
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

    fn connect_config(&self) -> ConnectConfig {
        let options = &self.shared.options;
        let is_cluster = options.layout.is_cluster;
        let tracking = |validity| Tracking {
            validity,
            is_cluster,
        };
        ConnectConfig {
            tracking: self.validity.clone().map(tracking),
            ..options.connect.clone()
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
        let shared = &self.shared;
        let gives_up = !error.is_retryable() || shared.is_down();
        self.backlog.retain(|request| {
            if gives_up || request.deadline() <= next {
                if error.is_retryable() {
                    shared.waited_in_vain(request.deadline());
                }
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
        if connection.needs_heartbeat() {
            connection.heartbeat(&self.shared)?;
        }
        let round_trip = connection.round_trip();
        if connection.is_accepting() {
            self.pause();
            self.throttle
                .sent(Instant::now(), self.shared.stats.calls());
            self.send()?;
            while self.coalesce() {
                self.send()?;
            }
        }
        self.with_connection(LiveConnection::receive)?;
        self.throttle.received(Instant::now(), round_trip);
        Ok(())
    }

    /// Pauses between the rounds of a listing, until another request comes to this worker.
    fn pause(&mut self) {
        let Some(until) = self.next_round(Instant::now()) else {
            return;
        };
        let waiting = self.backlog.len();
        while Instant::now() < until
            && self.backlog.len() == waiting
            && self.connection.is_some()
            && !self.queue.is_closed()
        {
            self.wait_until(until, false, false);
        }
    }

    /// When to send the next round of a listing. `None` if at once: this worker has other requests too, no
    /// other is free to serve calls, or half of the listing's timeout has passed.
    fn next_round(&self, now: Instant) -> Option<Instant> {
        let pause = self.throttle.pause(self.shared.stats.calls());
        let latest = now + self.shared.options.timeout / 2;
        let mut requests = self.backlog.requests();
        let may_wait = self.requests() == self.backlog.len()
            && self.shared.free_workers() > 0
            && requests
                .all(|request| request.operation.is_listing() && request.deadline() > latest);
        (may_wait && !pause.is_zero()).then(|| now + pause)
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
    /// No request should have to find out. If one has waited in vain, no other should wait at all.
    fn drop_suspected_connection(&mut self) {
        let failure = self.shared.availability.last_failure();
        let connection = self.connection.as_ref().zip(failure);
        if connection.is_some_and(|(live, failure)| live.is_unused_since(failure)) {
            self.disconnect(&ErrorKind::Disconnected.into());
            if self.shared.is_down() {
                self.complete_all(&self.shared.outage_error());
            }
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
