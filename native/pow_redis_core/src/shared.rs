//! What the workers of a cache share.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::link::Link;
use crate::operation::Outcome;
use crate::options::{Options, Topology};
use crate::route::Route;

/// What happens in a cache, for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Redis can be reached (again).
    Connected {
        /// The server's version, where it says it.
        version: Option<String>,
    },
    /// Redis cannot be reached. Workers go on trying.
    Disconnected(Error),
    /// So many values were not fit to become terms, and were left out.
    Refused(usize),
    /// All workers have ended.
    Stopped,
}

/// Takes events, on a worker's thread.
pub type Observer = Box<dyn Fn(Event) + Send + Sync>;

/// A cache in numbers, since its start.
#[derive(Clone, Debug)]
pub struct Info {
    /// Whether Redis can be reached.
    pub connected: bool,
    /// Address of the server to which a worker connected last.
    pub server: Option<String>,
    /// That server's version, where it says it.
    pub version: Option<String>,
    /// What Redis is made of.
    pub topology: Topology,
    /// Number of workers that run.
    pub workers: usize,
    /// How many requests wait.
    pub queue: usize,
    /// How many requests were submitted.
    pub calls: u64,
    /// How many pipelines were sent.
    pub batches: u64,
    /// How many times a worker has connected again.
    pub reconnects: u64,
    /// How many requests were sent again after a lost connection.
    pub retries: u64,
}

/// What the workers share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) stats: Stats,
    pub(crate) link: Link,
    /// Address and version.
    server: Mutex<(Option<String>, Option<String>)>,
    observer: Observer,
    workers: AtomicUsize,
    /// How many are connected and not listing.
    free: AtomicUsize,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    calls: AtomicU64,
    reconnects: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) retries: AtomicU64,
}

impl Shared {
    pub(crate) fn new(options: Options, observer: Observer) -> Self {
        Self {
            options,
            stats: Stats::default(),
            link: Link::new(),
            server: Mutex::default(),
            observer,
            workers: AtomicUsize::new(0),
            free: AtomicUsize::new(0),
        }
    }

    pub(crate) fn connected(&self, route: &Route, again: bool) {
        if again {
            self.stats.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        let version = route.version().map(str::to_owned);
        *self.server() = (Some(route.address().to_string()), version.clone());
        if self.link.connected() {
            (self.observer)(Event::Connected { version });
        }
    }

    pub(crate) fn failed(&self, error: &Error) {
        if self.link.failed(error) {
            (self.observer)(Event::Disconnected(error.clone()));
        }
    }

    /// Why a call is not answered in time: why nobody can connect, if that is known.
    pub(crate) fn too_late(&self) -> Error {
        let known = self.link.failure();
        known.unwrap_or_else(|| ErrorKind::Timeout.into())
    }

    pub(crate) fn report_refused(&self, outcome: &Outcome) {
        let refused = match outcome {
            Outcome::Refused(_) => 1,
            Outcome::Records { refused, .. } => *refused,
            _ => 0,
        };
        if refused > 0 {
            (self.observer)(Event::Refused(refused));
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

    /// The cache in numbers, with so many requests in its queues.
    pub(crate) fn info(&self, queue: usize) -> Info {
        let (server, version) = self.server().clone();
        let stats = &self.stats;
        Info {
            connected: self.link.is_up(),
            server,
            version,
            topology: self.options.topology.clone(),
            workers: self.workers.load(Ordering::Relaxed),
            queue,
            calls: stats.calls.load(Ordering::Relaxed),
            batches: stats.batches.load(Ordering::Relaxed),
            reconnects: stats.reconnects.load(Ordering::Relaxed),
            retries: stats.retries.load(Ordering::Relaxed),
        }
    }

    fn server(&self) -> MutexGuard<'_, (Option<String>, Option<String>)> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
