//! Wakes a worker that sleeps when something arrives on its connections.
//!
//! A worker waits for its queues, which only channels can wake. So a thread of its own waits for the sockets,
//! and tells the worker through a channel. Sockets are registered only while the worker sleeps: replies wake
//! the thread that reads them, not this one.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::net::socket::SocketId;

/// The event that ends the thread.
const STOP: Token = Token(0);
/// Something has arrived.
const ARRIVAL: Token = Token(1);
/// How many events are taken at a time.
const MAX_EVENTS: usize = 16;

/// Wakes a worker that sleeps when something arrives on its connections.
#[derive(Debug)]
pub(crate) struct Watcher {
    registry: Registry,
    waker: Arc<Waker>,
    arrivals: Receiver<()>,
}

/// Sockets that are watched until this is dropped.
pub(super) struct Watched<'w> {
    registry: &'w Registry,
    sockets: &'w [SocketId],
}

impl Watcher {
    /// Starts the thread, which ends when this is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Arc::new(Waker::new(&registry, STOP)?);
        let woken = Arc::clone(&waker);
        let (sender, arrivals) = bounded(1);
        thread::Builder::new()
            .name("pow_redis_watch".to_owned())
            .spawn(move || tell(poll, &sender, &woken))?;
        Ok(Self {
            registry,
            waker,
            arrivals,
        })
    }

    /// Receives a message when something has arrived on a watched socket.
    pub(super) const fn arrivals(&self) -> &Receiver<()> {
        &self.arrivals
    }

    /// Watches sockets. What has arrived before counts too.
    pub(super) fn watch<'w>(&'w self, sockets: &'w [SocketId]) -> Watched<'w> {
        for socket in sockets {
            // The next heartbeat reads what is not noticed here.
            let _ = self
                .registry
                .register(&mut SourceFd(socket), ARRIVAL, Interest::READABLE);
        }
        Watched {
            registry: &self.registry,
            sockets,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.waker.wake();
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        for socket in self.sockets {
            let _ = self.registry.deregister(&mut SourceFd(socket));
        }
    }
}

/// Tells what arrives, until it is to stop. It has a share of the waker, whose event would be lost with it.
fn tell(mut poll: Poll, sender: &Sender<()>, _waker: &Waker) {
    let mut events = Events::with_capacity(MAX_EVENTS);
    loop {
        match poll.poll(&mut events, None) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        if events.iter().any(|event| event.token() == STOP) {
            return;
        }
        // Full: the worker has not taken the last message yet.
        let _ = sender.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{RecvTimeoutError, TryRecvError};
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn tells_of_what_arrives_on_watched_sockets_only() {
        let watcher = Watcher::start().unwrap();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let sockets = [ours.as_raw_fd()];
        // Before it is watched.
        theirs.write_all(b"a").unwrap();
        assert_eq!(watcher.arrivals().try_recv(), Err(TryRecvError::Empty));
        let watched = watcher.watch(&sockets);
        assert_eq!(watcher.arrivals().recv_timeout(LONG), Ok(()));
        ours.read_exact(&mut [0]).unwrap();
        theirs.write_all(b"b").unwrap();
        assert_eq!(watcher.arrivals().recv_timeout(LONG), Ok(()));
        drop(watched);
        theirs.write_all(b"c").unwrap();
        let short = Duration::from_millis(20);
        let outcome = watcher.arrivals().recv_timeout(short);
        assert_eq!(outcome, Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn its_thread_ends_with_it() {
        let watcher = Watcher::start().unwrap();
        let arrivals = watcher.arrivals().clone();
        drop(watcher);
        let outcome = arrivals.recv_timeout(LONG);
        assert_eq!(outcome, Err(RecvTimeoutError::Disconnected));
    }
}
