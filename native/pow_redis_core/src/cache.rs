//! A running cache: queues in front of workers.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::error::{Error, ErrorKind};
use crate::index::Purges;
use crate::link::Link;
use crate::operation::{Layout, Operation, Outcome};
use crate::options::{Options, Topology};
use crate::request::{Reply, Request, Ticket};
use crate::route::Route;
use crate::worker::Worker;

/// A running cache. When it is dropped, the workers finish what is queued and end.
///
/// Invariant: puts and deletes are sent in the order in which they were submitted, all over the
/// first worker's connection. Everything else goes to whichever worker is free.
#[derive(Debug)]
pub struct Cache {
    reads: Sender<Request>,
    writes: Sender<Request>,
    /// Held for its drop alone: it interrupts workers that wait to connect again.
    _stop: Sender<()>,
    shared: Arc<Shared>,
}

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
    pub(crate) purges: Purges,
    pub(crate) stats: Stats,
    pub(crate) link: Link,
    /// Address and version.
    server: Mutex<(Option<String>, Option<String>)>,
    observer: Observer,
    workers: AtomicUsize,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    calls: AtomicU64,
    reconnects: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) retries: AtomicU64,
}

impl Cache {
    /// Starts the workers. They connect on their own: this does not need Redis.
    pub fn start(options: Options, observer: Observer) -> io::Result<Self> {
        let (reads, read_queue) = bounded(options.max_queue);
        let (writes, write_queue) = bounded(options.max_queue);
        let (stop, stopped) = bounded(0);
        let pool_size = options.pool_size.max(1);
        let shared = Arc::new(Shared::new(options, observer));
        let cache = Self {
            reads,
            writes,
            _stop: stop,
            shared,
        };
        for number in 0..pool_size {
            let mut queues = vec![read_queue.clone()];
            if number == 0 {
                queues.push(write_queue.clone());
            }
            cache.start_worker(number, queues, stopped.clone())?;
        }
        Ok(cache)
    }

    fn start_worker(
        &self,
        number: usize,
        queues: Vec<Receiver<Request>>,
        stopped: Receiver<()>,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.workers.fetch_add(1, Ordering::AcqRel);
        thread::Builder::new()
            .name(format!("pow_redis_{number}"))
            .spawn(move || {
                Worker::new(Arc::clone(&shared), queues, stopped).run();
                shared.worker_ended();
            })
            .inspect_err(|_| self.shared.worker_ended())
            .map(drop)
    }

    /// Submits an operation. `reply` is called from a worker, unless this fails. Never blocks.
    pub fn submit(&self, operation: Operation, reply: Reply) -> Result<Arc<Ticket>, Error> {
        self.shared.stats.calls.fetch_add(1, Ordering::Relaxed);
        let options = &self.shared.options;
        let queue = if operation.is_write() {
            &self.writes
        } else {
            &self.reads
        };
        let request = Request::new(operation, Instant::now() + options.timeout, reply);
        let down_for = self.shared.link.down_for();
        if down_for.is_some_and(|duration| duration > options.timeout) {
            request.withdraw();
            let known = self.shared.link.failure();
            return Err(known.unwrap_or_else(|| ErrorKind::Disconnected.into()));
        }
        let ticket = request.ticket();
        queue.try_send(request).map(|()| ticket).map_err(|refused| {
            let kind = match refused {
                TrySendError::Full(_) => ErrorKind::Busy,
                TrySendError::Disconnected(_) => ErrorKind::Closed,
            };
            refused.into_inner().withdraw();
            kind.into()
        })
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.shared.options.timeout
    }

    /// Whether Redis is a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.shared.options.topology, Topology::Cluster)
    }

    /// How keys lie in Redis.
    pub fn layout(&self) -> Layout {
        self.shared.options.layout
    }

    /// The cache in numbers.
    pub fn info(&self) -> Info {
        let stats = &self.shared.stats;
        let (server, version) = self.shared.server().clone();
        Info {
            connected: self.shared.link.is_up(),
            server,
            version,
            topology: self.shared.options.topology.clone(),
            workers: self.shared.workers.load(Ordering::Relaxed),
            queue: self.reads.len() + self.writes.len(),
            calls: stats.calls.load(Ordering::Relaxed),
            batches: stats.batches.load(Ordering::Relaxed),
            reconnects: stats.reconnects.load(Ordering::Relaxed),
            retries: stats.retries.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn new(options: Options, observer: Observer) -> Self {
        Self {
            options,
            purges: Purges::default(),
            stats: Stats::default(),
            link: Link::new(),
            server: Mutex::default(),
            observer,
            workers: AtomicUsize::new(0),
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

    fn worker_ended(&self) {
        if self.workers.fetch_sub(1, Ordering::AcqRel) == 1 {
            (self.observer)(Event::Stopped);
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
