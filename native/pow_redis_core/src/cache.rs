//! A running cache: queues in front of workers.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, unbounded};

use crate::error::{Error, ErrorKind};
use crate::keyspace::layout::Layout;
use crate::near::Validity;
use crate::net::primary_watch::PrimaryWatch;
use crate::operation::Operation;
use crate::options::Options;
use crate::worker::Worker;
use crate::worker::bell::{Bell, BellPush};
use crate::worker::queue::Queue;
use crate::worker::quota::Quota;
use crate::worker::request::Request;
use crate::worker::shared::Shared;

pub use crate::worker::request::{CancelHandle, Reply};
pub use crate::worker::shared::{Event, Info, NearInfo, Observer};

/// How long before they are sent values may be sealed. Half of the margin with which they open.
const MAX_SEAL_AHEAD: Duration = Duration::from_secs(30);

/// A running cache. When it is dropped, the workers serve what is queued and end.
///
/// Invariant: puts and deletes are sent in the order in which they were submitted, all over the first
/// worker's connection. So are reads whose values are kept near. Other requests go to whichever worker is free.
#[derive(Debug)]
pub struct Cache {
    /// To any worker.
    any: Entrance,
    /// To the first worker.
    first: Entrance,
    /// Its drop wakes workers that wait to reconnect.
    _stop: Sender<()>,
    /// Wakes the first worker when it waits for its sockets too. Dropped after `_stop`, and rings then.
    bell: Option<BellPush>,
    shared: Arc<Shared>,
    watch: Option<Arc<PrimaryWatch>>,
}

/// The entrance of a queue. Nothing is allocated for the places in it.
#[derive(Debug)]
struct Entrance {
    sender: Sender<Request>,
    /// One for each request in the queue.
    places: Arc<Quota>,
    /// For the bytes of its requests that have not been completed.
    bytes: Arc<Quota>,
}

impl Cache {
    /// Starts the workers. They connect in the background: this needs no Redis.
    pub fn start(options: Options, observer: Observer) -> io::Result<Self> {
        let (any, any_queue) = unbounded();
        let (first, first_queue) = unbounded();
        let (stop, stopped) = bounded(0);
        let pool_size = options.pool_size.max(1);
        let (max_queue, max_bytes) = (options.max_queue, options.max_queue_bytes);
        let entrance = |sender| Entrance {
            sender,
            places: Quota::new(max_queue),
            bytes: Quota::new(max_bytes),
        };
        let shared = Arc::new(Shared::new(options, observer));
        let watched = Arc::clone(&shared);
        let is_connected = move || watched.availability.is_up();
        let config = &shared.options.connect;
        let watch = PrimaryWatch::start(config, is_connected, stopped.clone())?;
        let bell = shared.validity.as_ref().map(|_| Bell::new()).transpose()?;
        let cache = Self {
            any: entrance(any),
            first: entrance(first),
            _stop: stop,
            bell: bell.as_ref().map(Bell::push),
            shared,
            watch,
        };
        let new_worker = |queue| Worker::new(Arc::clone(&cache.shared), cache.watch.clone(), queue);
        let queue = Queue::new(any_queue.clone(), stopped.clone());
        let queue = queue.with_own(first_queue).with_bell(bell);
        cache.start_worker(0, new_worker(queue).tracking())?;
        for number in 1..pool_size {
            let queue = Queue::new(any_queue.clone(), stopped.clone());
            cache.start_worker(number, new_worker(queue))?;
        }
        Ok(cache)
    }

    fn start_worker(&self, number: usize, worker: Worker) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.worker_starts();
        thread::Builder::new()
            .name(format!("pow_redis_{number}"))
            .spawn(move || {
                worker.run();
                shared.worker_ended();
            })
            .inspect_err(|_| self.shared.worker_ended())
            .map(drop)
    }

    /// Submits an operation. A worker calls `reply`, unless this fails. Never blocks.
    pub fn submit(&self, operation: Operation, reply: Reply) -> Result<Arc<CancelHandle>, Error> {
        self.shared.count_call();
        let options = &self.shared.options;
        let validity = self.shared.validity.as_ref();
        let is_ordered = match validity {
            Some(validity) if validity.is_tracking() => operation.is_ordered(),
            _ => operation.is_write(),
        };
        let queue = if is_ordered { &self.first } else { &self.any };
        let request = Request::new(operation, Instant::now() + options.timeout, reply);
        // The first caller after a while waits for a try to connect. The others get its outcome.
        if self.shared.is_down() && self.shared.availability.ask() {
            request.discard();
            return Err(self.shared.outage_error());
        }
        let bytes = request.operation.byte_len();
        let (Some(place), Some(bytes)) = (queue.places.take(1), queue.bytes.take(bytes)) else {
            request.discard();
            return Err(ErrorKind::Busy.into());
        };
        let mut request = request.with_shares(place, bytes);
        if let Some(validity) = validity.filter(|_| request.operation.is_write()) {
            request = request.invalidating(validity);
        }
        let handle = request.cancel_handle();
        if let Err(refused) = queue.sender.send(request) {
            refused.into_inner().discard();
            return Err(ErrorKind::Closed.into());
        }
        if let Some(bell) = &self.bell {
            bell.ring();
        }
        Ok(handle)
    }

    /// Stops waiting. Returns why the call has timed out, or `None` if the outcome has been sent or is being
    /// sent.
    pub fn cancel(&self, handle: &CancelHandle) -> Option<Error> {
        handle.cancel().then(|| {
            self.shared.waited_in_vain(Instant::now());
            self.shared.timeout_error(handle.refusal())
        })
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.shared.options.timeout
    }

    /// What near values are valid by, if there are any.
    pub fn validity(&self) -> Option<&Arc<Validity>> {
        self.shared.validity.as_ref()
    }

    /// The time on the server's clock, in Unix milliseconds. Returns `None` until a worker has connected, and
    /// if calls may take so long that the time of a request would differ from it by much.
    pub fn now_ms(&self) -> Option<i64> {
        let is_soon = self.timeout() <= MAX_SEAL_AHEAD;
        is_soon.then(|| self.shared.now_ms()).flatten()
    }

    /// Which keys the store keeps.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.shared.options.layout
    }

    /// The cache in numbers.
    pub fn info(&self) -> Info {
        let queue = self.any.sender.len() + self.first.sender.len();
        let queue_bytes = self.any.bytes.taken() + self.first.bytes.taken();
        self.shared.info(queue, queue_bytes)
    }
}
