//! What the workers of a cache share.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::availability::Availability;
use crate::error::{Error, ErrorKind};
use crate::keyspace::pattern::Shape;
use crate::near::{EpochEnd, Validity};
use crate::net::client::Client;
use crate::net::config::Topology;
use crate::net::server_clock::ServerClock;
use crate::operation::Outcome;
use crate::options::Options;
use crate::seal::Unopened;

/// How many patterns are reported that no index set covers.
const MAX_INDEX_MISSES: usize = 100;

/// An event in a cache, for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Redis can be reached (again).
    Connected {
        /// The server's product and version, if it reports them.
        version: Option<String>,
    },
    /// The server knows no user of that name, and the password alone was right.
    UserIgnored,
    /// Redis cannot be reached. Workers keep trying to connect.
    Disconnected(Error),
    /// The server does not tell its time: this host's clock is used.
    LocalClock,
    /// No index set lists all keys that match a pattern like this, so all keys were scanned. Reported once.
    IndexMiss(Shape),
    /// This many invalid values were read from Redis, and ignored.
    Invalid(usize),
    /// All near values have become invalid.
    NearValuesEnded(EpochEnd),
    /// The server does not track reads: no value is kept near.
    TrackingRefused(Error),
    /// This many values read from Redis did not open for this reason, and were ignored.
    Unopened(Unopened, usize),
    /// All workers have ended.
    Stopped,
}

/// Receives events, on a worker's thread.
pub type Observer = Box<dyn Fn(Event) + Send + Sync>;

/// A cache in numbers, since its start.
#[derive(Clone, Debug)]
pub struct Info {
    /// Whether Redis can be reached.
    pub connected: bool,
    /// The address of the server that a worker connected to last.
    pub server: Option<String>,
    /// That server's product and version, if it reports them.
    pub version: Option<String>,
    /// One server, Sentinel or Cluster.
    pub topology: Topology,
    /// The number of running workers.
    pub workers: usize,
    /// The number of queued requests.
    pub queue: usize,
    /// The bytes of the requests that have not been completed.
    pub queue_bytes: usize,
    /// The number of requests submitted.
    pub calls: u64,
    /// The number of pipelines sent.
    pub batches: u64,
    /// How many times a worker has reconnected.
    pub reconnects: u64,
    /// How many requests were retried after a lost connection.
    pub retries: u64,
    /// How many values did not open.
    pub unopened: u64,
    /// What makes near values invalid, if there are any.
    pub near: Option<NearInfo>,
}

/// What makes near values invalid, in numbers.
#[derive(Clone, Debug)]
pub struct NearInfo {
    /// Whether a connection tracks reads.
    pub tracking: bool,
    /// How many values were used instead of asking Redis.
    pub hits: u64,
    /// How many changed keys Redis has told of.
    pub invalidations: u64,
    /// How many times all near values have become invalid, by reason.
    pub ends: Vec<(EpochEnd, u64)>,
}

/// What the workers share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) stats: Stats,
    pub(crate) availability: Availability,
    /// What near values are valid by, if there are any.
    pub(crate) validity: Option<Arc<Validity>>,
    /// The ends of epochs that were reported, by reason.
    reported_ends: Mutex<[u64; EpochEnd::ALL.len()]>,
    /// Address and version.
    server: Mutex<(Option<String>, Option<String>)>,
    /// The clock of the server that was asked last.
    clock: Mutex<Option<ServerClock>>,
    observer: Observer,
    has_reported_clock: AtomicBool,
    /// The patterns that were reported.
    index_misses: Mutex<HashSet<Shape>>,
    workers: AtomicUsize,
    /// The number of workers that are connected and not listing keys.
    free: AtomicUsize,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    calls: AtomicU64,
    reconnects: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) retries: AtomicU64,
    unopened: AtomicU64,
}

impl Stats {
    /// The number of requests submitted.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub(crate) fn new(options: Options, observer: Observer) -> Self {
        let validity = options.max_staleness.map(Validity::new);
        Self {
            options,
            validity: validity.map(Arc::new),
            reported_ends: Mutex::default(),
            stats: Stats::default(),
            availability: Availability::new(),
            server: Mutex::default(),
            clock: Mutex::default(),
            observer,
            has_reported_clock: AtomicBool::new(false),
            index_misses: Mutex::default(),
            workers: AtomicUsize::new(0),
            free: AtomicUsize::new(0),
        }
    }

    pub(crate) fn connected(&self, client: &Client, again: bool) {
        if again {
            self.stats.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        let version = client.version().map(str::to_owned);
        self.set_clock(client.clock());
        *self.server() = (Some(client.address().to_string()), version.clone());
        if self.availability.connected() {
            (self.observer)(Event::Connected { version });
            if client.user_is_ignored() {
                (self.observer)(Event::UserIgnored);
            }
        }
        if client.clock().is_local() && !self.has_reported_clock.swap(true, Ordering::Relaxed) {
            (self.observer)(Event::LocalClock);
        }
    }

    pub(crate) fn set_clock(&self, clock: ServerClock) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }

    /// The time on the server's clock, once a worker has connected.
    pub(crate) fn now_ms(&self) -> Option<i64> {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.map(|clock| clock.now_ms())
    }

    pub(crate) fn failed(&self, error: &Error) {
        if self.availability.failed(error) {
            (self.observer)(Event::Disconnected(error.clone()));
        }
    }

    /// Why a call has timed out: the reason why no worker can connect, or why the server has refused the
    /// request, if there is one.
    pub(crate) fn timeout_error(&self, refusal: Option<Error>) -> Error {
        let known = self.availability.failure().or(refusal);
        known.unwrap_or_else(|| ErrorKind::Timeout.into())
    }

    /// Whether Redis has been unreachable for longer than a call may take, or for as long as a call has
    /// waited.
    pub(crate) fn is_down(&self) -> bool {
        let down_for = self.availability.down_for();
        down_for.is_some_and(|duration| duration > self.options.timeout)
            || self.availability.is_silent()
    }

    /// Why calls fail while it is down.
    pub(crate) fn outage_error(&self) -> Error {
        let known = self.availability.failure();
        known.unwrap_or_else(|| ErrorKind::Disconnected.into())
    }

    /// A call with this deadline has ended without a reply. If nothing came for most of its time, the next
    /// ones need not wait. The last replies may have come at the beginning.
    pub(crate) fn waited_in_vain(&self, deadline: Instant) {
        let timeout = self.options.timeout;
        if let Some(silent_since) = deadline.checked_sub(timeout - timeout / 4) {
            self.availability.waited_in_vain(silent_since);
        }
    }

    /// Reports a pattern the first time.
    pub(crate) fn report_index_miss(&self, shape: Shape) {
        let mut reported = self
            .index_misses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if reported.len() < MAX_INDEX_MISSES && reported.insert(shape.clone()) {
            drop(reported);
            (self.observer)(Event::IndexMiss(shape));
        }
    }

    /// Reports the epochs that have ended since the last report.
    pub(crate) fn report_epoch_ends(&self) {
        let Some(validity) = &self.validity else {
            return;
        };
        let ends = validity.ends();
        let before = {
            let reported = self.reported_ends.lock();
            let mut reported = reported.unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *reported, ends)
        };
        for (reason, (ends, before)) in EpochEnd::ALL.iter().zip(ends.iter().zip(before)) {
            if *ends > before {
                (self.observer)(Event::NearValuesEnded(*reason));
            }
        }
    }

    /// Reports why the server does not track reads. A server that is no primary, or a node of a cluster that is
    /// down, may do so later.
    pub(crate) fn report_refusal(&self, refusal: &Error) {
        let is_temporary = matches!(refusal.kind(), ErrorKind::Server(_)) && refusal.is_retryable();
        if !is_temporary {
            (self.observer)(Event::TrackingRefused(refusal.clone()));
        }
    }

    pub(crate) fn report_invalid(&self, outcome: &Outcome) {
        let invalid = match outcome {
            Outcome::Invalid(_) => 1,
            Outcome::Records { invalid, .. } => *invalid,
            _ => 0,
        };
        if invalid > 0 {
            (self.observer)(Event::Invalid(invalid));
        }
    }

    pub(crate) fn report_unopened(&self, outcome: &Outcome) {
        let reasons = match outcome {
            Outcome::Unopened(reason) => BTreeMap::from([(*reason, 1)]),
            Outcome::Records { unopened, .. } => unopened.clone(),
            _ => return,
        };
        for (reason, number) in reasons {
            let count = u64::try_from(number).unwrap_or(u64::MAX);
            self.stats.unopened.fetch_add(count, Ordering::Relaxed);
            (self.observer)(Event::Unopened(reason, number));
        }
    }

    pub(crate) fn count_call(&self) {
        self.stats.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn worker_starts(&self) {
        self.workers.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn worker_ended(&self) {
        if self.workers.fetch_sub(1, Ordering::AcqRel) == 1 {
            (self.observer)(Event::Stopped);
        }
    }

    pub(crate) fn worker_is_free(&self, free: bool) {
        if free {
            self.free.fetch_add(1, Ordering::AcqRel);
        } else {
            self.free.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn free_workers(&self) -> usize {
        self.free.load(Ordering::Acquire)
    }

    /// The cache in numbers, with `queue` requests in its queues, and `queue_bytes` bytes of requests.
    pub(crate) fn info(&self, queue: usize, queue_bytes: usize) -> Info {
        let (server, version) = self.server().clone();
        let stats = &self.stats;
        Info {
            connected: self.availability.is_up(),
            server,
            version,
            topology: self.options.connect.topology.clone(),
            workers: self.workers.load(Ordering::Relaxed),
            queue,
            queue_bytes,
            calls: stats.calls(),
            batches: stats.batches.load(Ordering::Relaxed),
            reconnects: stats.reconnects.load(Ordering::Relaxed),
            retries: stats.retries.load(Ordering::Relaxed),
            near: self.validity.as_deref().map(NearInfo::of),
            unopened: stats.unopened.load(Ordering::Relaxed),
        }
    }

    fn server(&self) -> MutexGuard<'_, (Option<String>, Option<String>)> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NearInfo {
    fn of(validity: &Validity) -> Self {
        Self {
            tracking: validity.is_tracking(),
            hits: validity.hits(),
            invalidations: validity.invalidations(),
            ends: EpochEnd::ALL.into_iter().zip(validity.ends()).collect(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
