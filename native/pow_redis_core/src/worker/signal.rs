//! A signal that a thread can wait for together with its sockets.

pub(super) use system::Signal;

/// Linux counts in the kernel. A pair of sockets takes four times as long, a pipe twice.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};

    /// Readable while it is set.
    #[derive(Debug)]
    pub(in super::super) struct Signal(OwnedFd);

    impl Signal {
        pub(in super::super) fn new() -> io::Result<Self> {
            let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
            Ok(Self(eventfd(0, flags)?))
        }

        /// Sets it. That it is set already is no error.
        pub(in super::super) fn set(&self) {
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }

        /// Clears it, if it is set.
        pub(in super::super) fn clear(&self) {
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }

        pub(in super::super) fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    /// How many times it may be set until it is cleared at once.
    const MAX_SET: usize = 16;

    /// Readable while it is set.
    #[derive(Debug)]
    pub(in super::super) struct Signal {
        ours: UnixStream,
        theirs: UnixStream,
    }

    impl Signal {
        pub(in super::super) fn new() -> io::Result<Self> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            Ok(Self { ours, theirs })
        }

        /// Sets it. That it is set already is no error.
        pub(in super::super) fn set(&self) {
            let _ = (&self.theirs).write(&[0]);
        }

        /// Clears it, if it is set.
        pub(in super::super) fn clear(&self) {
            let _ = (&self.ours).read(&mut [0; MAX_SET]);
        }

        pub(in super::super) fn as_fd(&self) -> BorrowedFd<'_> {
            self.ours.as_fd()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_set(signal: &Signal) -> bool {
        let mut source = [PollFd::from_borrowed_fd(signal.as_fd(), PollFlags::IN)];
        poll(&mut source, Some(&Timespec::default())).unwrap() > 0
    }

    #[test]
    fn is_set_until_it_is_cleared() {
        let signal = Signal::new().unwrap();
        assert!(!is_set(&signal));
        signal.clear();
        for _ in 0..2 {
            signal.set();
            signal.set();
            assert!(is_set(&signal) && is_set(&signal));
            signal.clear();
            assert!(!is_set(&signal));
        }
    }
}
