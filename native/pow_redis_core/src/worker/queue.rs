//! The queues that a worker receives requests from.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, TryRecvError};

use super::backlog::Backlog;
use super::bell::Bell;
use super::request::Request;
use crate::spin::WaitStrategy;

/// The queues of a worker, and whether the cache is stopping.
pub(crate) struct Queue {
    /// The queue that all workers share, then the worker's own, if it has one.
    queues: Vec<Receiver<Request>>,
    /// Closed when the cache stops.
    stop: Receiver<()>,
    /// Wakes the worker when it waits for its sockets too.
    bell: Option<Arc<Bell>>,
    wait: WaitStrategy,
    /// The queue to start with, so that neither starves the other.
    next: usize,
}

impl Queue {
    /// The shared queue.
    pub(crate) fn new(shared: Receiver<Request>, stop: Receiver<()>) -> Self {
        Self {
            queues: vec![shared],
            stop,
            bell: None,
            wait: WaitStrategy::default(),
            next: 0,
        }
    }

    /// The shared queue and the worker's own.
    #[must_use]
    pub(crate) fn with_own(mut self, own: Receiver<Request>) -> Self {
        self.queues.push(own);
        self
    }

    /// With what wakes the worker when it waits for its sockets too.
    #[must_use]
    pub(crate) fn with_bell(mut self, bell: Option<Arc<Bell>>) -> Self {
        self.bell = bell;
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.iter().all(Receiver::is_empty)
    }

    /// Whether the cache is stopping.
    pub(crate) fn is_closed(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Sleeps until the cache stops, at most for `duration`. Returns whether it stops.
    pub(crate) fn closes_within(&self, duration: Duration) -> bool {
        self.stop.recv_timeout(duration) == Err(RecvTimeoutError::Disconnected)
    }

    /// Receives at most `room` requests that are queued.
    pub(crate) fn receive(&mut self, takes_shared: bool, room: usize, backlog: &mut Backlog) {
        let skipped = usize::from(!takes_shared);
        let queues = self.queues.get(skipped..).unwrap_or_default();
        let (mut empty, mut received) = (0, 0);
        // One of each queue in turn.
        for queue in queues.iter().cycle().skip(self.next) {
            if empty >= queues.len() || received >= room {
                break;
            }
            match queue.try_recv() {
                Ok(mut request) => {
                    request.leave_queue();
                    empty = 0;
                    received += 1;
                    backlog.push(request);
                }
                Err(_) => empty += 1,
            }
        }
        self.next = 0;
    }

    /// Waits for a request until a deadline, until the cache stops, or until something arrives on one of the
    /// sockets. With `spins`, may spin before it sleeps.
    ///
    /// Workers block in `Select::select_deadline`, which wakes exactly one of them per request
    /// (`ready_deadline` would wake all).
    pub(crate) fn wait(
        &mut self,
        takes_shared: bool,
        deadline: Instant,
        spins: bool,
        sockets: &[BorrowedFd<'_>],
    ) -> Option<Request> {
        let skipped = usize::from(!takes_shared);
        let queues = self.queues.get(skipped..).unwrap_or_default();
        let mut select = Select::new();
        for queue in queues {
            select.recv(queue);
        }
        select.recv(&self.stop);
        let start = Instant::now();
        // One worker alone spins: more would compete with Redis and the callers for the processor.
        let polled = if spins && self.queues.len() > 1 {
            self.wait.poll(|| select.try_select().ok())
        } else {
            None
        };
        let ready = polled.or_else(|| match &self.bell {
            Some(bell) if !sockets.is_empty() => {
                bell.wait(sockets, deadline, || {
                    queues.iter().all(Receiver::is_empty) && !self.is_closed()
                });
                select.try_select().ok()
            }
            _ => select.select_deadline(deadline).ok(),
        });
        self.wait.record_wait(start.elapsed());
        let ready = ready?;
        let number = ready.index();
        self.next = number + 1;
        if let Some(queue) = queues.get(number) {
            let mut request = ready.recv(queue).ok()?;
            request.leave_queue();
            return Some(request);
        }
        // Nothing is sent through `stop`.
        let _ = ready.recv(&self.stop);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::testing::{key, no_index};
    use crate::operation::{Get, Operation};
    use crossbeam_channel::{Sender, bounded};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    struct Handles {
        any: Sender<Request>,
        own: Sender<Request>,
        stop: Sender<()>,
    }

    fn queue() -> (Queue, Handles) {
        let (any, any_queue) = bounded(8);
        let (own, own_queue) = bounded(8);
        let (stop, stopped) = bounded(0);
        let queue = Queue::new(any_queue, stopped).with_own(own_queue);
        (queue, Handles { any, own, stop })
    }

    /// A request that is identified by its deadline.
    fn request(number: u64) -> Request {
        let get = Operation::Get(Get::new(key(&[&[97, 1]]), &no_index()));
        let deadline = Instant::now() + Duration::from_secs(number * 1_000);
        Request::new(get, deadline, Box::new(|_| ()))
    }

    fn number(request: &Request) -> u64 {
        let left = request.deadline().duration_since(Instant::now());
        (left.as_secs() + 500) / 1_000
    }

    fn received(queue: &mut Queue, takes_shared: bool) -> Vec<u64> {
        let mut backlog = Backlog::default();
        queue.receive(takes_shared, usize::MAX, &mut backlog);
        backlog.requests().map(number).collect()
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn receives_from_each_queue_in_turn() {
        let (mut queue, handles) = queue();
        for number in [1, 2, 3] {
            handles.any.send(request(number)).unwrap();
        }
        handles.own.send(request(4)).unwrap();
        assert!(!queue.is_empty());
        assert_eq!(received(&mut queue, true), [1, 4, 2, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn receives_no_more_than_there_is_room_for() {
        let (mut queue, handles) = queue();
        for number in [1, 2, 3] {
            handles.any.send(request(number)).unwrap();
        }
        let mut backlog = Backlog::default();
        queue.receive(true, 2, &mut backlog);
        assert_eq!(backlog.len(), 2);
        assert_eq!(received(&mut queue, true), [3]);
    }

    #[test]
    fn starts_with_the_queue_behind_the_one_it_waited_for() {
        let (mut queue, handles) = queue();
        handles.any.send(request(1)).unwrap();
        let first = queue.wait(true, in_a_minute(), true, &[]).unwrap();
        assert_eq!(number(&first), 1);
        handles.any.send(request(2)).unwrap();
        handles.own.send(request(3)).unwrap();
        assert_eq!(received(&mut queue, true), [3, 2]);
    }

    #[test]
    fn leaves_the_shared_queue_to_others() {
        let (mut queue, handles) = queue();
        handles.any.send(request(1)).unwrap();
        handles.own.send(request(2)).unwrap();
        let own = queue.wait(false, in_a_minute(), false, &[]).unwrap();
        assert_eq!(number(&own), 2);
        assert!(received(&mut queue, false).is_empty());
        assert_eq!(received(&mut queue, true), [1]);
    }

    #[test]
    fn a_wait_ends_at_the_deadline_and_when_the_cache_stops() {
        let (mut queue, handles) = queue();
        let soon = Instant::now() + Duration::from_millis(1);
        assert!(queue.wait(true, soon, true, &[]).is_none());
        assert!(!queue.is_closed() && !queue.closes_within(Duration::from_millis(1)));
        drop(handles.stop);
        assert!(queue.wait(true, in_a_minute(), true, &[]).is_none());
        assert!(queue.is_closed() && queue.closes_within(Duration::from_secs(60)));
    }

    /// How long the queue waits after a short wait. The deadline has passed, so it waits only if it spins.
    fn wait_after_short_one(queue: &mut Queue, spins: bool) -> Duration {
        queue.wait = WaitStrategy::default();
        queue.wait.record_wait(Duration::ZERO);
        let start = Instant::now();
        assert!(queue.wait(true, start, spins, &[]).is_none());
        start.elapsed()
    }

    #[test]
    fn spins_after_a_short_wait_if_the_worker_has_its_own_queue() {
        const SPIN: Duration = Duration::from_micros(50);
        let (mut queue, _handles) = queue();
        assert!(wait_after_short_one(&mut queue, true) >= SPIN);
        let ((_any, any_queue), (_stop, stopped)) = (bounded(8), bounded(0));
        let mut shared = Queue::new(any_queue, stopped);
        for (queue, spins) in [(&mut queue, false), (&mut shared, true)] {
            // Others may have the processor, but not always.
            assert!((0..1_000).any(|_| wait_after_short_one(queue, spins) < SPIN));
        }
    }

    #[test]
    fn a_wait_ends_when_something_arrives_on_a_watched_socket() {
        let (queue, handles) = queue();
        let bell = Bell::new().unwrap();
        let mut queue = queue.with_bell(Some(Arc::clone(&bell)));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"a").unwrap();
        let sockets = [ours.as_fd()];
        assert!(queue.wait(true, in_a_minute(), true, &sockets).is_none());
        // A request is received before what has arrived.
        handles.any.send(request(1)).unwrap();
        let any = queue.wait(true, in_a_minute(), true, &sockets).unwrap();
        assert_eq!(number(&any), 1);
        (&ours).read_exact(&mut [0]).unwrap();
        let (sender, push) = (handles.any.clone(), bell.push());
        let sending = thread::spawn(move || {
            sender.send(request(2)).unwrap();
            push.ring();
        });
        let any = queue.wait(true, in_a_minute(), true, &sockets).unwrap();
        assert_eq!(number(&any), 2);
        sending.join().unwrap();
        drop(handles.stop);
        assert!(queue.wait(true, in_a_minute(), true, &sockets).is_none());
    }
}
