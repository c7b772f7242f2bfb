//! A socket on which every wait ends at one deadline, however many reads and writes there are.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use crate::address::Address;
use crate::spin::Spin;

/// A silent peer is taken for dead after about this long.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

/// A socket with a deadline.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    deadline: Instant,
    read_timeout: Timeout,
    write_timeout: Timeout,
    /// Whether the stream sleeps until it can do what it is asked, or says at once that it cannot.
    sleeps: bool,
    spins: bool,
    spin: Spin,
}

/// The timeout that is set. Setting it takes a system call, so it is set anew only where it is too
/// long, or so short that a wait would end often before its deadline.
#[derive(Debug, Default)]
struct Timeout(Option<Duration>);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    pub(crate) fn open(address: &Address, deadline: Instant) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp { host, port } => {
                return Self::connect(&resolve(host, *port)?, deadline);
            }
            #[cfg(unix)]
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self::over(stream, deadline))
    }

    /// Tries each of the addresses that a name has.
    pub(crate) fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Self> {
        let stream = Stream::Tcp(connect(addresses, deadline)?);
        Ok(Self::over(stream, deadline))
    }

    fn over(stream: Stream, deadline: Instant) -> Self {
        Self {
            stream,
            deadline,
            read_timeout: Timeout::default(),
            write_timeout: Timeout::default(),
            sleeps: true,
            spins: false,
            spin: Spin::default(),
        }
    }

    pub(crate) const fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Whether to look for what comes before sleeping, if that pays.
    pub(crate) const fn set_spins(&mut self, spins: bool) {
        self.spins = spins;
    }

    fn set_sleeps(&mut self, sleeps: bool) -> io::Result<()> {
        if self.sleeps != sleeps {
            self.stream.set_nonblocking(!sleeps)?;
            self.sleeps = sleeps;
        }
        Ok(())
    }

    /// Reads what has come.
    fn read_now(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let outcome = self
            .set_sleeps(false)
            .and_then(|()| self.stream.read(buffer));
        (!ended_early(&outcome)).then_some(outcome)
    }

    /// Sleeps until something has come, and reads it.
    fn read_later(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.set_sleeps(true)?;
        loop {
            if let Some(timeout) = self.read_timeout.for_wait(left(self.deadline)?) {
                self.stream.set_read_timeout(timeout)?;
                self.read_timeout = Timeout(Some(timeout));
            }
            let outcome = self.stream.read(buffer);
            if !ended_early(&outcome) {
                return outcome;
            }
        }
    }
}

/// The addresses that a name has. The system looks it up, and knows no deadline.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(address, left(deadline)?) {
            Ok(stream) => {
                // Else Nagle's algorithm makes concurrent requests wait for a round trip.
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new()
                    .with_time(KEEPALIVE_TIME)
                    .with_interval(KEEPALIVE_INTERVAL);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The time that is left; an error when there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

impl Timeout {
    /// The timeout to set for a wait of so long at most, if another than the one that is set.
    fn for_wait(&self, left: Duration) -> Option<Duration> {
        let fits = |set: Duration| set <= left && set >= left / 2;
        (!self.0.is_some_and(fits)).then_some(left)
    }
}

impl Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(nonblocking),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }
}

/// Whether there is nothing yet: a wait ended at its timeout, which may be before the deadline, or at a signal.
fn ended_early(outcome: &io::Result<usize>) -> bool {
    let early = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    matches!(outcome, Err(error) if early.contains(&error.kind()))
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        left(self.deadline)?;
        let begin = Instant::now();
        let mut spin = self.spin;
        let soon = self.spins.then(|| spin.look(|| self.read_now(buffer)));
        self.spin = spin;
        let outcome = soon.flatten().unwrap_or_else(|| self.read_later(buffer));
        self.spin.waited(begin.elapsed());
        outcome
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.set_sleeps(true)?;
        loop {
            if let Some(timeout) = self.write_timeout.for_wait(left(self.deadline)?) {
                self.stream.set_write_timeout(timeout)?;
                self.write_timeout = Timeout(Some(timeout));
            }
            let outcome = self.stream.write(bytes);
            if !ended_early(&outcome) {
                return outcome;
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
