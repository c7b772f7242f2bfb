//! A connection that serves requests, and the requests in flight on it.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Value;

use super::backlog::Backlog;
use super::in_flight::InFlight;
use super::rtt::MinRtt;
use super::shared::Shared;
use crate::error::{Error, ErrorKind, ServerCode};
use crate::net::client::Client;
use crate::net::patience::Patience;
use crate::net::primary_watch::PrimaryWatch;
use crate::operation::Step;
use crate::resp::commands::Commands;
use crate::resp::replies::RoundReplies;

/// How long a connection may be idle before a heartbeat is sent.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// If the server is silent for half of a call's timeout, and at least this long, the worker reconnects. The
/// other half is for the next connection, perhaps to another primary.
const MIN_REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// With this many requests, more may arrive while the replies are on their way. One request has nothing
/// to wait for, and more than these leave no time.
const COALESCED_REQUESTS: RangeInclusive<usize> = 2..=64;

/// A connection that serves requests, and the requests in flight on it. Dropped as a whole when it is
/// lost.
pub(super) struct LiveConnection {
    client: Client,
    pub(super) in_flight: InFlight,
    /// An error reply that another server, or the same one later, would not give. Nothing more is sent,
    /// and the connection is dropped when the other replies are read.
    retryable_reply: Option<Error>,
    min_rtt: MinRtt,
    last_used: Instant,
    commands: Commands,
}

/// What serving a request involves besides the connection.
pub(super) struct Surroundings<'w> {
    pub(super) shared: &'w Shared,
    pub(super) watch: Option<&'w PrimaryWatch>,
    pub(super) backlog: &'w mut Backlog,
}

impl LiveConnection {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            in_flight: InFlight::default(),
            retryable_reply: None,
            min_rtt: MinRtt::default(),
            last_used: Instant::now(),
            commands: Commands::new(),
        }
    }

    /// The round-trip time to the server when its clock was read.
    pub(super) fn round_trip(&self) -> Duration {
        self.client.clock().round_trip()
    }

    /// When to send a heartbeat if the connection stays idle.
    pub(super) fn heartbeat_due(&self) -> Instant {
        self.last_used + HEARTBEAT_INTERVAL
    }

    /// Reads the server's clock, if the connection has been idle for long enough. A caller that comes
    /// meanwhile waits no longer than for a reply.
    pub(super) fn heartbeat(&mut self, shared: &Shared) -> Result<(), Error> {
        if self.heartbeat_due() > Instant::now() {
            return Ok(());
        }
        self.last_used = Instant::now();
        let deadline = self.last_used + max_silence(shared);
        self.client.read_clock(deadline.into())?;
        shared.set_clock(self.client.clock());
        shared.availability.replied(Instant::now());
        Ok(())
    }

    /// Whether nothing has come over this connection since `time`, and nothing is under way.
    pub(super) fn is_unused_since(&self, time: Instant) -> bool {
        self.in_flight.is_empty() && self.last_used <= time
    }

    /// Whether something was sent that has not been answered.
    pub(super) fn is_unfinished(&self) -> bool {
        self.client.is_unfinished()
    }

    /// If the sentinels name another primary now, sends nothing more, as after the reply `READONLY`, though
    /// this one may still answer.
    pub(super) fn leave_superseded(&mut self, watch: &PrimaryWatch) {
        if self.client.is_superseded(watch) {
            let read_only = ErrorKind::Server(ServerCode::read_only()).into();
            self.retryable_reply.get_or_insert(read_only);
        }
    }

    /// Whether requests may be sent. Not after a retryable error reply.
    pub(super) const fn is_accepting(&self) -> bool {
        self.retryable_reply.is_none()
    }

    /// Sends the backlog, as far as it may be sent now.
    pub(super) fn send(&mut self, around: &mut Surroundings<'_>) -> Result<(), Error> {
        let (clock, batch_bytes) = (self.client.clock(), self.client.batch_bytes());
        loop {
            self.commands.clear();
            self.in_flight
                .write(around.backlog, clock, batch_bytes, &mut self.commands);
            if self.commands.is_empty() {
                return Ok(());
            }
            around.shared.stats.batches.fetch_add(1, Ordering::Relaxed);
            let patience = self.patience(around.shared);
            self.client.send(&mut self.commands, patience)?;
        }
    }

    /// Until when no reply can arrive, if more requests may.
    pub(super) fn earliest_reply(&self, requests: usize) -> Option<Instant> {
        if self.client.has_buffered() || !COALESCED_REQUESTS.contains(&requests) {
            return None;
        }
        let earliest = self
            .min_rtt
            .earliest_reply(self.in_flight.front_sent_at()?)?;
        (earliest > Instant::now()).then_some(earliest)
    }

    /// Receives the replies of one request, then those that have already arrived. Fails when a retryable
    /// error reply has ended the connection.
    pub(super) fn receive(&mut self, around: &mut Surroundings<'_>) -> Result<(), Error> {
        let received = self.receive_arrived(around);
        self.last_used = Instant::now();
        received?;
        around.shared.availability.replied(self.last_used);
        match self.retryable_reply.take_if(|_| self.in_flight.is_empty()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn receive_arrived(&mut self, around: &mut Surroundings<'_>) -> Result<(), Error> {
        let patience = self.patience(around.shared);
        if let Some(sent_at) = self.in_flight.front_sent_at() {
            self.receive_front(around, patience)?;
            self.min_rtt.record(sent_at.elapsed());
        }
        while !self.in_flight.is_empty() && self.client.has_buffered() {
            self.receive_front(around, patience)?;
        }
        Ok(())
    }

    /// How long to wait for the next reply.
    fn patience(&self, shared: &Shared) -> Patience {
        let silence = max_silence(shared);
        let last = self.in_flight.last_deadline();
        Patience {
            deadline: last.unwrap_or_else(|| Instant::now() + silence),
            silence: Some(silence),
        }
    }

    /// Receives the replies of the first request in flight, then advances or requeues it.
    fn receive_front(
        &mut self,
        around: &mut Surroundings<'_>,
        patience: Patience,
    ) -> Result<(), Error> {
        let Some((_, replies)) = self.in_flight.front() else {
            return Ok(());
        };
        let values = (0..replies)
            .map(|_| self.client.receive(patience))
            .collect::<Result<RoundReplies, _>>()?;
        if let Some(watch) = around.watch
            && values.iter().any(is_misconfigured)
        {
            // Sentinels that do not answer say nothing against the primary.
            let _ = watch.ask_now();
            self.leave_superseded(watch);
        }
        let Some((request, _)) = self.in_flight.front() else {
            return Ok(());
        };
        let requeue = match values.iter().find_map(retryable_reply) {
            Some(error) => {
                self.retryable_reply.get_or_insert(error);
                true
            }
            // The server may have run this write although it rejected an earlier one. It must run again
            // after that one.
            _ => request.operation.is_write() && self.retryable_reply.is_some(),
        };
        if requeue {
            self.in_flight.requeue_front(around.backlog);
            Ok(())
        } else {
            self.advance(values, around)
        }
    }

    /// Gives the first request in flight its replies, and completes it when its operation is done.
    fn advance(
        &mut self,
        replies: RoundReplies,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Error> {
        let Some((request, _)) = self.in_flight.front() else {
            return Ok(());
        };
        if let Some(shape) = request.operation.take_index_miss() {
            around.shared.report_index_miss(shape);
        }
        // The request stays in its place meanwhile: if the operation panics, the worker answers it.
        let outcome = match request.operation.read(replies.into()) {
            Ok(Step::Again) => {
                self.in_flight.requeue_front(around.backlog);
                return Ok(());
            }
            Ok(Step::Done(outcome)) => {
                around.shared.report_invalid(&outcome);
                around.shared.report_unopened(&outcome);
                Ok(outcome)
            }
            Err(error) => Err(error),
        };
        let connection = match &outcome {
            Err(error) if !error.keeps_connection() => Err(error.clone()),
            _ => Ok(()),
        };
        if let Some(request) = self.in_flight.pop_front() {
            request.complete(outcome);
        }
        connection
    }
}

/// How long the server may be silent while a reply is outstanding.
fn max_silence(shared: &Shared) -> Duration {
    (shared.options.timeout / 2).max(MIN_REPLY_TIMEOUT)
}

/// The error of a reply that another server, or the same one later, would not give.
fn retryable_reply(reply: &Value) -> Option<Error> {
    let Value::ServerError(error) = reply else {
        return None;
    };
    let error = Error::from_reply(error);
    error.is_retryable().then_some(error)
}

/// Whether the server cannot do its work until somebody acts. With sentinels, another may have replaced it.
fn is_misconfigured(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "MISCONF")
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::net::testing::{FakeServer, array};
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
            let live = LiveConnection::new(connect(&shared));
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

    /// A server that replies like this to reads and writes, and hangs at a ping.
    fn server(read: &'static str, write: &'static str) -> FakeServer {
        FakeServer::start(move |words| match words[0].as_str() {
            "GET" => Some(read.to_owned()),
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
}
