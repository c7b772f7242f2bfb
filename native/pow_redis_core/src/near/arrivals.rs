//! Whether what Redis tells is read in time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often somebody looks, in microseconds of the boot clock.
const INTERVAL: u64 = 250;

/// Whether what Redis tells is read in time.
///
/// The system wakes the worker when something arrives. While those who use near values keep all processors busy,
/// it may let the worker wait until its next tick, for milliseconds. So they look themselves now and then: if
/// something waits that waited when they last looked, and the worker has read nothing since, the worker is
/// behind, and no value may be used until it reads.
#[derive(Debug, Default)]
pub struct Arrivals {
    sockets: Arc<Sockets>,
    /// How many times the worker has read, plus one.
    reading: AtomicU64,
    looked_at: AtomicU64,
    /// The reading after which something was found to wait, or zero.
    waits_since: AtomicU64,
    /// The reading after which the worker was found to be behind.
    behind_since: AtomicU64,
}

/// Duplicates of sockets, each with the number of its [`Watched`].
#[derive(Debug, Default)]
struct Sockets(Mutex<Vec<(u64, OwnedFd)>>);

/// A socket on which Redis tells of changes. Its connection stays open until this is dropped too.
#[derive(Debug)]
pub(crate) struct Watched {
    sockets: Arc<Sockets>,
    number: u64,
}

impl Arrivals {
    /// Nothing has arrived.
    pub fn new() -> Self {
        let arrivals = Self::default();
        arrivals.are_read();
        arrivals
    }

    /// From now on, what arrives on this socket has to be read in time.
    pub(crate) fn watch(&self, socket: BorrowedFd<'_>) -> io::Result<Watched> {
        let duplicate = socket.try_clone_to_owned()?;
        let mut sockets = self.sockets.lock();
        let number = sockets.last().map_or(0, |(last, _)| last + 1);
        sockets.push((number, duplicate));
        Ok(Watched {
            sockets: Arc::clone(&self.sockets),
            number,
        })
    }

    /// The worker has read from a socket.
    pub fn are_read(&self) {
        self.reading.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the worker reads in time. The time is that of the boot clock.
    pub fn are_read_in_time(&self, now: u64) -> bool {
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        if now.saturating_sub(looked_at) >= INTERVAL && self.takes_turn(looked_at, now) {
            self.look();
        }
        self.behind_since.load(Ordering::Acquire) != self.reading.load(Ordering::Acquire)
    }

    /// Only one thread looks at a time.
    fn takes_turn(&self, looked_at: u64, now: u64) -> bool {
        self.looked_at
            .compare_exchange(looked_at, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn look(&self) {
        let reading = self.reading.load(Ordering::Acquire);
        let waits_since = if self.has_arrived() { reading } else { 0 };
        let waited_since = self.waits_since.swap(waits_since, Ordering::AcqRel);
        if waits_since == reading && waited_since == reading {
            self.behind_since.store(reading, Ordering::Release);
        }
    }

    /// Whether something waits to be read. Does not block.
    fn has_arrived(&self) -> bool {
        let Ok(sockets) = self.sockets.0.try_lock() else {
            return false;
        };
        let mut sources: Vec<_> = sockets
            .iter()
            .map(|(_, socket)| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
            .collect();
        poll(&mut sources, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Vec<(u64, OwnedFd)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut sockets = self.sockets.lock();
        sockets.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    struct Fixture {
        arrivals: Arrivals,
        ours: UnixStream,
        theirs: UnixStream,
        watched: Option<Watched>,
        now: u64,
    }

    impl Fixture {
        fn new() -> Self {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let arrivals = Arrivals::new();
            let watched = arrivals.watch(ours.as_fd()).unwrap();
            Self {
                arrivals,
                ours,
                theirs,
                watched: Some(watched),
                now: 0,
            }
        }

        fn is_in_time(&mut self, later: u64) -> bool {
            self.now += later;
            self.arrivals.are_read_in_time(self.now)
        }
    }

    #[test]
    fn a_worker_is_behind_if_something_waits_twice() {
        let mut fixture = Fixture::new();
        for _ in 0..3 {
            assert!(fixture.is_in_time(INTERVAL));
        }
        fixture.theirs.write_all(b"a").unwrap();
        assert!(fixture.is_in_time(INTERVAL - 1), "nobody looks");
        assert!(fixture.is_in_time(1), "the worker may be about to read");
        assert!(fixture.is_in_time(INTERVAL - 1));
        assert!(!fixture.is_in_time(1) && !fixture.is_in_time(0));
        fixture.ours.read_exact(&mut [0]).unwrap();
        assert!(!fixture.is_in_time(INTERVAL), "it was read, but not taken");
        fixture.arrivals.are_read();
        assert!(fixture.is_in_time(0) && fixture.is_in_time(INTERVAL));
    }

    #[test]
    fn a_worker_that_reads_is_in_time() {
        let mut fixture = Fixture::new();
        fixture.theirs.write_all(b"a").unwrap();
        for _ in 0..3 {
            assert!(fixture.is_in_time(INTERVAL));
            fixture.arrivals.are_read();
        }
    }

    #[test]
    fn what_came_and_went_does_not_count() {
        let mut fixture = Fixture::new();
        fixture.theirs.write_all(b"a").unwrap();
        assert!(fixture.is_in_time(INTERVAL));
        fixture.ours.read_exact(&mut [0]).unwrap();
        assert!(fixture.is_in_time(INTERVAL));
        fixture.theirs.write_all(b"a").unwrap();
        assert!(fixture.is_in_time(INTERVAL));
        assert!(!fixture.is_in_time(INTERVAL));
    }

    #[test]
    fn a_socket_that_nobody_reads_any_more_does_not_count() {
        let mut fixture = Fixture::new();
        fixture.theirs.write_all(b"a").unwrap();
        let mut other = Fixture::new();
        other.watched = Some(fixture.arrivals.watch(other.ours.as_fd()).unwrap());
        let third = fixture.arrivals.watch(fixture.ours.as_fd()).unwrap();
        drop(fixture.watched.take());
        drop(third);
        for _ in 0..3 {
            assert!(fixture.is_in_time(INTERVAL));
        }
        other.theirs.write_all(b"a").unwrap();
        assert!(fixture.is_in_time(INTERVAL) && !fixture.is_in_time(INTERVAL));
        assert_eq!(fixture.arrivals.sockets.lock().len(), 1);
    }

    #[test]
    fn a_dropped_socket_is_closed() {
        let mut fixture = Fixture::new();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let watched = fixture.arrivals.watch(ours.as_fd()).unwrap();
        drop(ours);
        theirs.write_all(b"a").unwrap();
        assert!(fixture.is_in_time(INTERVAL) && !fixture.is_in_time(INTERVAL));
        drop(watched);
        assert!(theirs.write_all(b"a").is_err());
    }
}
