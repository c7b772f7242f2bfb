//! A running cache: queues in front of workers.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::error::{Error, ErrorKind};
use crate::keyspace::layout::Layout;
use crate::net::config::Topology;
use crate::net::primary_watch::PrimaryWatch;
use crate::operation::Operation;
use crate::options::Options;
use crate::worker::Worker;
use crate::worker::queue::Queue;
use crate::worker::request::Request;
use crate::worker::shared::Shared;

pub use crate::worker::request::{CancelHandle, Reply};
pub use crate::worker::shared::{Event, Info, Observer};

/// A running cache. When it is dropped, the workers serve what is queued and end.
///
/// Invariant: puts and deletes are sent in the order in which they were submitted, all over the first
/// worker's connection. Other requests go to whichever worker is free.
#[derive(Debug)]
pub struct Cache {
    /// To any worker.
    any: Sender<Request>,
    /// To the first worker.
    first: Sender<Request>,
    /// Its drop wakes workers that wait to reconnect.
    _stop: Sender<()>,
    shared: Arc<Shared>,
    watch: Option<Arc<PrimaryWatch>>,
}

impl Cache {
    /// Starts the workers. They connect in the background: this needs no Redis.
    pub fn start(options: Options, observer: Observer) -> io::Result<Self> {
        let (any, any_queue) = bounded(options.max_queue);
        let (first, first_queue) = bounded(options.max_queue);
        let (stop, stopped) = bounded(0);
        let pool_size = options.pool_size.max(1);
        let shared = Arc::new(Shared::new(options, observer));
        let watched = Arc::clone(&shared);
        let is_connected = move || watched.availability.is_up();
        let config = &shared.options.connect;
        let watch = PrimaryWatch::start(config, is_connected, stopped.clone())?;
        let cache = Self {
            any,
            first,
            _stop: stop,
            shared,
            watch,
        };
        let queue = Queue::new(any_queue.clone(), stopped.clone());
        cache.start_worker(0, queue.with_own(first_queue))?;
        for number in 1..pool_size {
            let queue = Queue::new(any_queue.clone(), stopped.clone());
            cache.start_worker(number, queue)?;
        }
        Ok(cache)
    }

    fn start_worker(&self, number: usize, queue: Queue) -> io::Result<()> {
        let (shared, watch) = (Arc::clone(&self.shared), self.watch.clone());
        shared.worker_starts();
        thread::Builder::new()
            .name(format!("pow_redis_{number}"))
            .spawn(move || {
                Worker::new(Arc::clone(&shared), watch, queue).run();
                shared.worker_ended();
            })
            .inspect_err(|_| self.shared.worker_ended())
            .map(drop)
    }

    /// Submits an operation. A worker calls `reply`, unless this fails. Never blocks.
    pub fn submit(&self, operation: Operation, reply: Reply) -> Result<Arc<CancelHandle>, Error> {
        self.shared.count_call();
        let options = &self.shared.options;
        let queue = if operation.is_write() {
            &self.first
        } else {
            &self.any
        };
        let request = Request::new(operation, Instant::now() + options.timeout, reply);
        let down_for = self.shared.availability.down_for();
        if down_for.is_some_and(|duration| duration > options.timeout) {
            request.discard();
            let known = self.shared.availability.failure();
            return Err(known.unwrap_or_else(|| ErrorKind::Disconnected.into()));
        }
        let handle = request.cancel_handle();
        queue.try_send(request).map(|()| handle).map_err(|refused| {
            let kind = match refused {
                TrySendError::Full(_) => ErrorKind::Busy,
                TrySendError::Disconnected(_) => ErrorKind::Closed,
            };
            refused.into_inner().discard();
            kind.into()
        })
    }

    /// Stops waiting. Returns why the call has timed out, or `None` if the outcome has been sent or is being
    /// sent.
    pub fn cancel(&self, handle: &CancelHandle) -> Option<Error> {
        handle.cancel().then(|| self.shared.timeout_error())
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.shared.options.timeout
    }

    /// Whether Redis is a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.shared.options.connect.topology, Topology::Cluster)
    }

    /// Which keys the store keeps.
    pub fn layout(&self) -> Layout {
        self.shared.options.layout
    }

    /// The cache in numbers.
    pub fn info(&self) -> Info {
        self.shared.info(self.any.len() + self.first.len())
    }
}
