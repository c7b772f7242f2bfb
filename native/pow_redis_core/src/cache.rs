//! A running cache: queues in front of workers.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::error::{Error, ErrorKind};
use crate::inbox::{Inbox, Lookout};
use crate::operation::{Layout, Operation};
use crate::options::{Options, Topology};
use crate::request::{Reply, Request, Ticket};
use crate::shared::Shared;
use crate::worker::Worker;

pub use crate::shared::{Event, Info, Observer};

/// A running cache. When it is dropped, the workers finish what is queued and end.
///
/// Invariant: puts and deletes are sent in the order in which they were submitted, all over the
/// first worker's connection. Everything else goes to the first worker if that is awake and looks for
/// a request, else to whichever worker is free.
#[derive(Debug)]
pub struct Cache {
    /// To any of the workers.
    any: Sender<Request>,
    /// To the first of them.
    first: Sender<Request>,
    /// The first one's.
    lookout: Lookout,
    /// Held for its drop alone: it interrupts workers that wait to connect again.
    _stop: Sender<()>,
    shared: Arc<Shared>,
}

impl Cache {
    /// Starts the workers. They connect on their own: this does not need Redis.
    pub fn start(options: Options, observer: Observer) -> io::Result<Self> {
        let (any, any_queue) = bounded(options.max_queue);
        let (first, first_queue) = bounded(options.max_queue);
        let (stop, stopped) = bounded(0);
        let pool_size = options.pool_size.max(1);
        let shared = Arc::new(Shared::new(options, observer));
        let cache = Self {
            any,
            first,
            lookout: Lookout::default(),
            _stop: stop,
            shared,
        };
        let inbox = Inbox::new(any_queue.clone(), stopped.clone());
        cache.start_worker(0, inbox.with_own(first_queue, cache.lookout.clone()))?;
        for number in 1..pool_size {
            let inbox = Inbox::new(any_queue.clone(), stopped.clone());
            cache.start_worker(number, inbox)?;
        }
        Ok(cache)
    }

    fn start_worker(&self, number: usize, inbox: Inbox) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.worker_starts();
        thread::Builder::new()
            .name(format!("pow_redis_{number}"))
            .spawn(move || {
                Worker::new(Arc::clone(&shared), inbox).run();
                shared.worker_ended();
            })
            .inspect_err(|_| self.shared.worker_ended())
            .map(drop)
    }

    /// Submits an operation. `reply` is called from a worker, unless this fails. Never blocks.
    pub fn submit(&self, operation: Operation, reply: Reply) -> Result<Arc<Ticket>, Error> {
        self.shared.count_call();
        let options = &self.shared.options;
        let queue = if operation.is_write() || self.lookout.take() {
            &self.first
        } else {
            &self.any
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

    /// Gives up waiting: why, or `None` if the answer was sent or is just being sent.
    pub fn cancel(&self, ticket: &Ticket) -> Option<Error> {
        ticket.cancel().then(|| self.shared.too_late())
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
        self.shared.info(self.any.len() + self.first.len())
    }
}
