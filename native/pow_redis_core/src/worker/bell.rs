//! Wakes a worker that waits for its sockets.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::signal::Signal;

/// A worker that waits for its sockets as well, since Redis may tell of changed keys.
///
/// Channels cannot wake it then: whoever sends it something rings afterwards.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Whether the worker waits, or is about to.
    is_awaited: AtomicBool,
    signal: Signal,
}

/// Rings after each request, and when it is dropped.
#[derive(Debug)]
pub(crate) struct BellPush(Arc<Bell>);

impl Bell {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            is_awaited: AtomicBool::new(false),
            signal: Signal::new()?,
        }))
    }

    /// What rings.
    pub(crate) fn push(self: &Arc<Self>) -> BellPush {
        BellPush(Arc::clone(self))
    }

    /// Waits until something arrives on one of the sockets, until it rings, or until a deadline. Does not wait
    /// if `is_idle` is false, which is asked when a ring would be heard already.
    pub(super) fn wait(
        &self,
        sockets: &[BorrowedFd<'_>],
        deadline: Instant,
        is_idle: impl FnOnce() -> bool,
    ) {
        self.is_awaited.store(true, Ordering::Relaxed);
        // Either the worker sees what was sent, or the sender sees that it waits.
        fence(Ordering::SeqCst);
        if is_idle() {
            let mut sources: Vec<_> = [self.signal.as_fd()]
                .iter()
                .chain(sockets)
                .map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN))
                .collect();
            let left = deadline.saturating_duration_since(Instant::now());
            // If this fails, the worker looks for something to do, and waits again.
            let _ = poll(&mut sources, Timespec::try_from(left).ok().as_ref());
            if sources
                .first()
                .is_some_and(|bell| !bell.revents().is_empty())
            {
                self.signal.clear();
            }
        }
        self.is_awaited.store(false, Ordering::Relaxed);
    }

    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_awaited.load(Ordering::Relaxed) && self.is_awaited.swap(false, Ordering::Relaxed)
        {
            self.signal.set();
        }
    }
}

impl BellPush {
    /// Wakes the worker, if it waits for its sockets.
    pub(crate) fn ring(&self) {
        self.0.ring();
    }
}

impl Drop for BellPush {
    fn drop(&mut self) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Whether a wait ends before its deadline.
    fn ends_early(bell: &Bell, sockets: &[BorrowedFd<'_>], wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        bell.wait(sockets, deadline, || true);
        Instant::now() < deadline
    }

    #[test]
    fn a_wait_ends_when_something_arrives() {
        let bell = Bell::new().unwrap();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"a").unwrap();
        let long = Duration::from_secs(60);
        assert!(ends_early(&bell, &[ours.as_fd()], long));
        assert!(ends_early(&bell, &[ours.as_fd()], long), "not read yet");
        ours.read_exact(&mut [0]).unwrap();
        let short = Duration::from_millis(10);
        assert!(!ends_early(&bell, &[ours.as_fd()], short));
        drop(theirs);
        assert!(ends_early(&bell, &[ours.as_fd()], long), "closed");
    }

    #[test]
    fn a_wait_ends_when_it_rings() {
        let bell = Bell::new().unwrap();
        let push = bell.push();
        let waits = Arc::clone(&bell);
        let waiting = thread::spawn(move || waits.wait(&[], in_a_minute(), || true));
        while !waiting.is_finished() {
            push.ring();
        }
        // What rang before the wait is not waited for: the worker looks first.
        push.ring();
        assert!(!ends_early(&bell, &[], Duration::from_millis(10)));
        let is_dropped = Arc::new(AtomicBool::new(false));
        let dropping = Arc::clone(&is_dropped);
        thread::spawn(move || {
            dropping.store(true, Ordering::Relaxed);
            drop(push);
        });
        bell.wait(&[], in_a_minute(), || !is_dropped.load(Ordering::Relaxed));
        assert!(is_dropped.load(Ordering::Relaxed));
    }

    #[test]
    fn nothing_that_is_sent_is_overlooked() {
        let bell = Bell::new().unwrap();
        let push = bell.push();
        let (sender, receiver) = crossbeam_channel::unbounded();
        let (answer, answers) = crossbeam_channel::unbounded();
        let worker = thread::spawn(move || {
            for _ in 0..10_000 {
                while receiver.is_empty() {
                    bell.wait(&[], in_a_minute(), || receiver.is_empty());
                }
                answer.send(receiver.recv().unwrap()).unwrap();
            }
        });
        for number in 0..10_000 {
            sender.send(number).unwrap();
            push.ring();
            assert_eq!(answers.recv_timeout(Duration::from_secs(30)), Ok(number));
        }
        worker.join().unwrap();
    }
}
