//! A running cache: queues in front of workers.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::error::{Error, ErrorKind};
use crate::operation::{Layout, Operation};
use crate::options::{Options, Topology};
use crate::request::{Reply, Request, Ticket};
use crate::shared::Shared;
use crate::worker::Worker;

pub use crate::shared::{Event, Info, Observer};

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
        shared.worker_starts();
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
        self.shared.count_call();
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
        self.shared.info(self.reads.len() + self.writes.len())
    }
}
