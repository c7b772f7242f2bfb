//! A socket on which all reads and writes share one deadline.

use std::io::{self, Read, Write};
#[cfg(unix)]
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
#[cfg(unix)]
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::SockRef;
#[cfg(unix)]
use socket2::{Domain, SockAddr, Type};

use super::address::Address;
use super::connect_race;
use super::deadline::left;
use super::lookup::resolve;

/// A socket with a deadline.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Transport,
    deadline: Instant,
    /// How long a single read or write may wait. A peer that is slow is waited for until the deadline, one
    /// that is silent is not.
    silence: Option<Duration>,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

/// The timeout that is set. Setting it takes a system call, so it changes only when it is too long, or so
/// short that waits would often end before the deadline.
#[derive(Debug, Default)]
struct Timeout(Option<Duration>);

/// What a socket holds that has not been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nothing.
    Nothing,
    /// Bytes.
    Bytes,
    /// The end: the peer has closed the connection.
    End,
}

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
                return Self::connect(&resolve(host, *port, deadline)?, deadline);
            }
            #[cfg(unix)]
            Address::Unix(path) => Transport::Unix(connect_unix(path, deadline)?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self::over(stream, deadline))
    }

    /// Connects to the first address that accepts.
    pub(crate) fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Self> {
        let stream = Transport::Tcp(connect_race::connect(addresses, deadline)?);
        Ok(Self::over(stream, deadline))
    }

    fn over(stream: Transport, deadline: Instant) -> Self {
        Self {
            stream,
            deadline,
            silence: None,
            read_timeout: Timeout::default(),
            write_timeout: Timeout::default(),
        }
    }

    /// All reads and writes end before `deadline`.
    pub(crate) const fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
        self.silence = None;
    }

    /// All reads and writes end before `deadline`, and each of them waits at most for `silence`.
    pub(crate) const fn set_patience(&mut self, deadline: Instant, silence: Duration) {
        self.deadline = deadline;
        self.silence = Some(silence);
    }

    /// When closed, the connection is reset, and the system drops what it has not delivered yet. By default
    /// it would go on delivering.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        self.stream.as_socket().set_linger(Some(Duration::ZERO))
    }

    /// What has arrived and has not been read. Neither waits nor takes anything.
    #[cfg(unix)]
    pub(crate) fn unread(&self) -> io::Result<Unread> {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match self.stream.as_socket().recv_with_flags(&mut byte, flags) {
            Ok(0) => Ok(Unread::End),
            Ok(_) => Ok(Unread::Bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Unread::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Other systems have no flag for it.
    #[cfg(not(unix))]
    pub(crate) fn unread(&self) -> io::Result<Unread> {
        Ok(Unread::Nothing)
    }

    /// The time that the next read or write may take; an error if there is none.
    fn wait(&self, begin: Instant) -> io::Result<Duration> {
        let silence = self.silence.map(|silence| begin + silence);
        left(silence.map_or(self.deadline, |silence| silence.min(self.deadline)))
    }
}

/// Connects to a Unix socket. While its backlog is full, `connect` waits as long as a write may.
#[cfg(unix)]
fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    loop {
        socket.set_write_timeout(Some(left(deadline)?))?;
        let outcome = socket.connect(&address);
        if !ended_early(&outcome) {
            return outcome.map(|()| socket.into());
        }
    }
}

impl Timeout {
    /// The timeout to set for a wait of at most `left`, unless the current one will do.
    fn for_wait(&self, left: Duration) -> Option<Duration> {
        let fits = |set: Duration| set <= left && set >= left / 2;
        (!self.0.is_some_and(fits)).then_some(left)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Transport::Tcp(stream) => stream.as_fd(),
            #[cfg(unix)]
            Transport::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Transport {
    fn as_socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            #[cfg(unix)]
            Self::Unix(stream) => SockRef::from(stream),
        }
    }

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

/// Whether a call ended without an outcome: at its timeout, which may precede the deadline, or at a signal.
fn ended_early<T>(outcome: &io::Result<T>) -> bool {
    let early = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    matches!(outcome, Err(error) if early.contains(&error.kind()))
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begin = Instant::now();
        loop {
            if let Some(timeout) = self.read_timeout.for_wait(self.wait(begin)?) {
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
        let begin = Instant::now();
        loop {
            if let Some(timeout) = self.write_timeout.for_wait(self.wait(begin)?) {
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

#[cfg(test)]
mod tests {
    use super::super::testing::wait_until;
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    fn tcp_pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = Socket::connect(&[address], Instant::now() + LONG).unwrap();
        (socket, listener.accept().unwrap().0)
    }

    #[cfg(unix)]
    fn unix_pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let deadline = Instant::now() + LONG;
        (Socket::over(Transport::Unix(ours), deadline), theirs)
    }

    /// Waits until something has arrived.
    fn arrived(socket: &Socket) -> Unread {
        loop {
            match socket.unread().unwrap() {
                Unread::Nothing => thread::yield_now(),
                arrived => return arrived,
            }
        }
    }

    fn sees_what_is_unread(mut socket: Socket, mut peer: impl Read + Write) {
        assert_eq!(socket.unread().unwrap(), Unread::Nothing);
        peer.write_all(b"ab").unwrap();
        assert_eq!(arrived(&socket), Unread::Bytes);
        let mut bytes = [0; 2];
        socket.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ab");
        assert_eq!(socket.unread().unwrap(), Unread::Nothing);
        drop(peer);
        assert_eq!(arrived(&socket), Unread::End);
    }

    #[test]
    fn sees_what_is_unread_over_tcp() {
        let (socket, peer) = tcp_pair();
        sees_what_is_unread(socket, peer);
    }

    #[cfg(unix)]
    #[test]
    fn sees_what_is_unread_over_a_unix_socket() {
        let (socket, peer) = unix_pair();
        sees_what_is_unread(socket, peer);
    }

    #[test]
    fn a_reset_connection_is_an_error_to_its_peer() {
        let (socket, mut peer) = tcp_pair();
        socket.reset_on_close().unwrap();
        drop(socket);
        let error = peer.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_reset_by_the_peer_is_an_error() {
        let (socket, peer) = tcp_pair();
        SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(peer);
        wait_until(|| socket.unread().is_err());
    }

    #[test]
    fn a_timeout_is_set_again_if_it_is_too_long_or_much_too_short() {
        let left = Duration::from_secs(4);
        for (set, expected) in [
            (None, Some(left)),
            (Some(5), Some(left)),
            (Some(4), None),
            (Some(2), None),
            (Some(1), Some(left)),
        ] {
            let timeout = Timeout(set.map(Duration::from_secs));
            assert_eq!(timeout.for_wait(left), expected, "{set:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_can_be_told_to_reset() {
        let (socket, mut peer) = unix_pair();
        socket.reset_on_close().unwrap();
        drop(socket);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn tcp_options_are_set() {
        let (socket, _peer) = tcp_pair();
        let options = socket.stream.as_socket();
        assert!(options.tcp_nodelay().unwrap());
        assert!(options.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert!(options.tcp_thin_linear_timeouts().unwrap());
        assert_eq!(options.linger().unwrap(), None);
    }

    #[test]
    fn a_read_waits_until_the_deadline() {
        let (mut socket, _peer) = tcp_pair();
        let begin = Instant::now();
        socket.set_deadline(begin + SHORT);
        let error = socket.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= SHORT);
    }

    #[test]
    fn a_silent_peer_is_not_waited_for_until_the_deadline() {
        let (mut socket, _peer) = tcp_pair();
        let begin = Instant::now();
        socket.set_patience(begin + LONG, SHORT);
        let error = socket.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((SHORT..LONG / 2).contains(&begin.elapsed()));
    }

    #[test]
    fn a_silent_peer_is_waited_for_again_with_a_deadline_alone() {
        let (mut socket, _peer) = tcp_pair();
        let begin = Instant::now();
        socket.set_patience(begin + LONG, Duration::ZERO);
        socket.set_deadline(begin + SHORT);
        socket.read(&mut [0]).unwrap_err();
        assert!(begin.elapsed() >= SHORT);
    }

    #[test]
    fn the_deadline_ends_the_patience() {
        let (mut socket, _peer) = tcp_pair();
        let begin = Instant::now();
        socket.set_patience(begin + SHORT, LONG);
        socket.read(&mut [0]).unwrap_err();
        assert!((SHORT..LONG / 2).contains(&begin.elapsed()));
    }

    #[test]
    fn a_slow_peer_is_not_silent() {
        let (mut socket, mut peer) = tcp_pair();
        let silence = Duration::from_secs(2);
        socket.set_patience(Instant::now() + LONG, silence);
        let writer = thread::spawn(move || {
            for byte in b"slow".repeat(3) {
                thread::sleep(silence / 8);
                peer.write_all(&[byte]).unwrap();
            }
        });
        let begin = Instant::now();
        let mut bytes = [0; 12];
        socket.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"slowslowslow");
        assert!(begin.elapsed() >= silence);
        writer.join().unwrap();
    }

    #[test]
    fn a_write_to_a_silent_peer_ends() {
        let (mut socket, _peer) = tcp_pair();
        let begin = Instant::now();
        socket.set_patience(begin + LONG, SHORT);
        let error = socket.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((SHORT..LONG / 2).contains(&begin.elapsed()));
    }

    /// The path of a Unix socket whose backlog is full, its listener, and the connections in the backlog.
    #[cfg(target_os = "linux")]
    fn full_unix_socket(
        name: &str,
    ) -> (Address, std::os::unix::net::UnixListener, Vec<UnixStream>) {
        let name = format!("pow_redis_{name}_{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let fill = || connect_unix(&path, Instant::now() + SHORT);
        let queued = std::iter::from_fn(|| fill().ok()).collect();
        (Address::Unix(path), socket.into(), queued)
    }

    #[cfg(target_os = "linux")]
    fn remove(address: &Address) {
        if let Address::Unix(path) = address {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn connecting_to_a_unix_socket_ends_at_the_deadline() {
        let (address, _listener, _queued) = full_unix_socket("full");
        let begin = Instant::now();
        let error = Socket::open(&address, begin + SHORT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((SHORT..LONG / 2).contains(&begin.elapsed()));
        remove(&address);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_unix_socket_with_a_full_backlog_is_waited_for() {
        let (address, listener, queued) = full_unix_socket("slow");
        let connecting = {
            let address = address.clone();
            thread::spawn(move || Socket::open(&address, Instant::now() + LONG))
        };
        thread::sleep(SHORT);
        for _ in queued {
            listener.accept().unwrap();
        }
        let mut socket = connecting.join().unwrap().unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"a").unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 1);
        remove(&address);
    }

    #[cfg(unix)]
    #[test]
    fn a_missing_unix_socket_is_an_error() {
        let address = Address::Unix("/no/such/folder/redis.sock".into());
        let error = Socket::open(&address, Instant::now() + LONG).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
