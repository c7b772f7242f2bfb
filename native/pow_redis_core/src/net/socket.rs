//! A socket on which all reads and writes share one deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use super::address::Address;

/// A silent server is probed after this long.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

/// A socket with a deadline.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Transport,
    deadline: Instant,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

/// The timeout that is set. Setting it takes a system call, so it changes only when it is too long, or so
/// short that waits would often end before the deadline.
#[derive(Debug, Default)]
struct Timeout(Option<Duration>);

#[derive(Debug)]
enum Transport {
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
            Address::Unix(path) => Transport::Unix(UnixStream::connect(path)?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self::over(stream, deadline))
    }

    /// Connects to the first address that accepts.
    pub(crate) fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Self> {
        let stream = Transport::Tcp(connect(addresses, deadline)?);
        Ok(Self::over(stream, deadline))
    }

    fn over(stream: Transport, deadline: Instant) -> Self {
        Self {
            stream,
            deadline,
            read_timeout: Timeout::default(),
            write_timeout: Timeout::default(),
        }
    }

    pub(crate) const fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
}

/// The addresses of a host name. The system's lookup knows no deadline.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(address, left(deadline)?) {
            Ok(stream) => {
                // Nagle's algorithm would make concurrent requests wait for a round trip.
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

/// The remaining time; an error if there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

impl Timeout {
    /// The timeout to set for a wait of at most `left`, unless the current one will do.
    fn for_wait(&self, left: Duration) -> Option<Duration> {
        let fits = |set: Duration| set <= left && set >= left / 2;
        (!self.0.is_some_and(fits)).then_some(left)
    }
}

impl Transport {
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

/// Whether a wait ended before bytes arrived: at its timeout, which may precede the deadline, or at a signal.
fn ended_early(outcome: &io::Result<usize>) -> bool {
    let early = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    matches!(outcome, Err(error) if early.contains(&error.kind()))
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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
