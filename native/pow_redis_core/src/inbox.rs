//! Where a worker's requests come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, TryRecvError};

use crate::pipeline::Pipeline;
use crate::request::Request;
use crate::spin::Spin;

/// Whether a worker is awake and looks for a request: who gives it to that one need not wake another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookout(Arc<AtomicBool>);

/// Queues, and the sign that there will be no more.
pub(crate) struct Inbox {
    /// The queue that all workers share, then its own, if it has one.
    queues: Vec<Receiver<Request>>,
    /// That of the worker that has a queue of its own.
    lookout: Option<Lookout>,
    /// Closed when the cache stops.
    stop: Receiver<()>,
    spin: Spin,
    /// With which queue to begin, so that neither holds up the other.
    next: usize,
}

impl Inbox {
    /// Of requests for any worker.
    pub(crate) fn new(any: Receiver<Request>, stop: Receiver<()>) -> Self {
        Self {
            queues: vec![any],
            lookout: None,
            stop,
            spin: Spin::default(),
            next: 0,
        }
    }

    /// Of requests for this worker, too.
    #[must_use]
    pub(crate) fn with_own(mut self, own: Receiver<Request>, lookout: Lookout) -> Self {
        self.queues.push(own);
        self.lookout = Some(lookout);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.iter().all(Receiver::is_empty)
    }

    /// Whether there will be no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits until there will be no more, at most so long. Whether that came.
    pub(crate) fn closes_within(&self, time: Duration) -> bool {
        self.stop.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }

    /// Takes what waits, as far as there is room, from all queues but the first so many.
    pub(crate) fn take(&mut self, skipped: usize, pipeline: &mut Pipeline) {
        let queues = self.queues.len() - skipped;
        let mut empty = 0;
        // One of each queue in turn.
        for queue in self.queues.iter().skip(skipped).cycle().skip(self.next) {
            if empty >= queues || pipeline.is_full() {
                break;
            }
            match queue.try_recv() {
                Ok(request) => {
                    empty = 0;
                    pipeline.push(request);
                }
                Err(_) => empty += 1,
            }
        }
        self.next = 0;
    }

    /// Waits for a request, at most until then; or until there will be no more. May look before it sleeps.
    ///
    /// A request wakes one worker: to wait for readiness alone would wake them all.
    pub(crate) fn wait(&mut self, skipped: usize, until: Instant, looks: bool) -> Option<Request> {
        let queues = self.queues.get(skipped..).unwrap_or_default();
        let mut select = Select::new();
        for queue in queues {
            select.recv(queue);
        }
        select.recv(&self.stop);
        let begin = Instant::now();
        let spin = &mut self.spin;
        let lookout = self.lookout.as_ref().filter(|_| looks && spin.pays());
        let soon = lookout.and_then(|lookout| {
            lookout.set(true);
            let ready = spin.look(|| select.try_select().ok());
            lookout.set(false);
            ready
        });
        let ready = soon.or_else(|| select.select_deadline(until).ok());
        spin.waited(begin.elapsed());
        let ready = ready?;
        let number = ready.index();
        self.next = number + 1;
        match queues.get(number) {
            Some(queue) => ready.recv(queue).ok(),
            None => ready.recv(&self.stop).err().and(None),
        }
    }
}

impl Lookout {
    /// Whether the worker looks. Who asks next is told that it does not: it has its request.
    pub(crate) fn take(&self) -> bool {
        self.0.load(Ordering::Acquire) && self.0.swap(false, Ordering::AcqRel)
    }

    fn set(&self, looks: bool) {
        self.0.store(looks, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::script::key;
    use crate::operation::{Get, Operation};
    use crossbeam_channel::{Sender, bounded};
    use std::thread;

    struct Ends {
        any: Sender<Request>,
        own: Sender<Request>,
        stop: Sender<()>,
        lookout: Lookout,
    }

    fn inbox() -> (Inbox, Ends) {
        let (any, any_queue) = bounded(8);
        let (own, own_queue) = bounded(8);
        let (stop, stopped) = bounded(0);
        let lookout = Lookout::default();
        let inbox = Inbox::new(any_queue, stopped).with_own(own_queue, lookout.clone());
        let ends = Ends {
            any,
            own,
            stop,
            lookout,
        };
        (inbox, ends)
    }

    /// A request that is late after so many seconds, by which it is known.
    fn request(number: u64) -> Request {
        let get = Operation::Get(Get::new(key(&[&[97, 1]])));
        let deadline = Instant::now() + Duration::from_secs(number * 1_000);
        Request::new(get, deadline, Box::new(|_| ()))
    }

    fn number(request: &Request) -> u64 {
        let left = request.deadline().duration_since(Instant::now());
        (left.as_secs() + 500) / 1_000
    }

    fn taken(inbox: &mut Inbox, skipped: usize) -> Vec<u64> {
        let mut pipeline = Pipeline::default();
        inbox.take(skipped, &mut pipeline);
        pipeline.requests().map(number).collect()
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn takes_of_each_queue_in_turn() {
        let (mut inbox, ends) = inbox();
        for of_any in [1, 2, 3] {
            ends.any.send(request(of_any)).unwrap();
        }
        ends.own.send(request(4)).unwrap();
        assert!(!inbox.is_empty());
        assert_eq!(taken(&mut inbox, 0), [1, 4, 2, 3]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn goes_on_with_the_queue_behind_the_one_it_waited_for() {
        let (mut inbox, ends) = inbox();
        ends.any.send(request(1)).unwrap();
        let first = inbox.wait(0, in_a_minute(), true).unwrap();
        assert_eq!(number(&first), 1);
        ends.any.send(request(2)).unwrap();
        ends.own.send(request(3)).unwrap();
        assert_eq!(taken(&mut inbox, 0), [3, 2]);
    }

    #[test]
    fn leaves_to_others_what_is_skipped() {
        let (mut inbox, ends) = inbox();
        ends.any.send(request(1)).unwrap();
        ends.own.send(request(2)).unwrap();
        let own = inbox.wait(1, in_a_minute(), false).unwrap();
        assert_eq!(number(&own), 2);
        assert!(taken(&mut inbox, 1).is_empty());
        assert_eq!(taken(&mut inbox, 0), [1]);
    }

    #[test]
    fn a_wait_ends_with_the_time_and_with_the_cache() {
        let (mut inbox, ends) = inbox();
        let soon = Instant::now() + Duration::from_millis(1);
        assert!(inbox.wait(0, soon, true).is_none());
        assert!(!inbox.is_closed() && !inbox.closes_within(Duration::from_millis(1)));
        drop(ends.stop);
        assert!(inbox.wait(0, in_a_minute(), true).is_none());
        assert!(inbox.is_closed() && inbox.closes_within(Duration::from_secs(60)));
    }

    #[test]
    fn one_caller_alone_gets_the_worker_that_looks() {
        let (mut inbox, ends) = inbox();
        assert!(!ends.lookout.take(), "it has not looked yet");
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                // It looks, time and again, until it is found looking.
                loop {
                    inbox.spin.waited(Duration::ZERO);
                    let soon = Instant::now() + Duration::from_micros(1);
                    if let Some(request) = inbox.wait(0, soon, true) {
                        return number(&request);
                    }
                }
            });
            while !ends.lookout.take() {
                thread::yield_now();
            }
            ends.own.send(request(5)).unwrap();
            assert_eq!(waits.join().unwrap(), 5);
        });
        assert!(!ends.lookout.take(), "it looks no more");
    }
}
