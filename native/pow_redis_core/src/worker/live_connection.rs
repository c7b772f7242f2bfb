//! A connection that serves requests, and the requests in flight on it.

use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Value;

use super::backlog::Backlog;
use super::in_flight::InFlight;
use super::rtt::MinRtt;
use super::shared::Shared;
use super::trust::Trust;
use crate::error::{Error, ErrorKind, ServerCode};
use crate::near::{EpochEnd, Validity};
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
    trust: Option<Trust>,
}

/// What serving a request involves besides the connection.
pub(super) struct Surroundings<'w> {
    pub(super) shared: &'w Shared,
    pub(super) watch: Option<&'w PrimaryWatch>,
    pub(super) backlog: &'w mut Backlog,
}

impl LiveConnection {
    pub(super) fn new(client: Client, validity: Option<&Arc<Validity>>) -> Self {
        let trust = validity.zip(client.confirmed_at());
        Self {
            trust: trust.map(|(validity, confirmed_at)| Trust::new(validity, confirmed_at)),
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
        let due = self.last_used + HEARTBEAT_INTERVAL;
        self.trust
            .as_ref()
            .map_or(due, |trust| trust.due().min(due))
    }

    /// Reads the server's clock, if the connection has been idle for long enough. A caller that comes
    /// meanwhile waits no longer than for a reply.
    pub(super) fn heartbeat(&mut self, shared: &Shared) -> Result<(), Error> {
        let now = Instant::now();
        if self.heartbeat_due() > now {
            return Ok(());
        }
        let is_idle = self.last_used + HEARTBEAT_INTERVAL <= now;
        if let Some(trust) = &mut self.trust
            && !trust.is_wanted(now)
            && !is_idle
        {
            return Ok(());
        }
        self.last_used = now;
        self.client.read_clock((now + max_silence(shared)).into())?;
        self.renew_trust();
        shared.set_clock(self.client.clock());
        shared.availability.replied(Instant::now());
        Ok(())
    }

    /// Whether a node of a cluster has to be asked, since others than it may be busy.
    pub(super) fn needs_heartbeat(&self) -> bool {
        let is_due = |trust: &Trust| trust.due() <= Instant::now();
        self.client.is_cluster()
            && self.in_flight.is_empty()
            && self.trust.as_ref().is_some_and(is_due)
    }

    /// The sockets on which Redis may tell of changed keys.
    pub(super) fn watched_sockets(&self) -> Vec<BorrowedFd<'_>> {
        match self.trust {
            Some(_) => self.client.sockets(),
            None => Vec::new(),
        }
    }

    /// Takes what Redis has told about changed keys, and was read with a reply.
    pub(super) fn take_pushes(&mut self) -> Result<(), Error> {
        match self.trust {
            Some(_) => self.client.take_pushes(),
            None => Ok(()),
        }
    }

    /// Takes what Redis has told about changed keys. Does not block.
    pub(super) fn read_pushes(&mut self) -> Result<(), Error> {
        match self.trust {
            Some(_) => self.client.read_pushes(),
            None => Ok(()),
        }
    }

    /// What was told before the last answer is known.
    fn renew_trust(&mut self) {
        if let (Some(trust), Some(confirmed_at)) = (&mut self.trust, self.client.confirmed_at()) {
            trust.renew(confirmed_at);
        }
    }

    /// What was read may be wrong from now on: the connection will be dropped.
    fn end_trust(&self, reason: EpochEnd) {
        if let Some(trust) = &self.trust {
            trust.validity().end(reason);
        }
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
            self.end_trust(EpochEnd::Demoted);
            let read_only = ErrorKind::Server(ServerCode::read_only()).into();
            self.retryable_reply.get_or_insert(read_only);
        }
    }

    /// Whether requests may be sent. Not after a retryable error reply.
    pub(super) const fn is_accepting(&self) -> bool {
        self.retryable_reply.is_none()
    }

    /// As if replies took this long.
    #[cfg(test)]
    pub(super) fn record_round_trips(&mut self, rtt: Duration) {
        (0..1_000).for_each(|_| self.min_rtt.record(rtt));
    }

    /// Sends the backlog, as far as it may be sent now.
    pub(super) fn send(&mut self, around: &mut Surroundings<'_>) -> Result<(), Error> {
        let (clock, batch_bytes) = (self.client.clock(), self.client.batch_bytes());
        loop {
            self.commands.clear();
            let validity = self.trust.as_ref().map(Trust::validity);
            self.in_flight.write(
                around.backlog,
                clock,
                validity,
                batch_bytes,
                &mut self.commands,
            );
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
        self.renew_trust();
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
                request.refused(error.clone());
                self.end_trust(EpochEnd::Demoted);
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
            // It was submitted while no connection tracked.
            if let (None, Some(validity)) = (&self.trust, &around.shared.validity)
                && request.operation.is_ordered()
                && !request.operation.is_write()
            {
                validity.overtake();
            }
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
mod tests;
#[cfg(test)]
mod tracking_tests;
