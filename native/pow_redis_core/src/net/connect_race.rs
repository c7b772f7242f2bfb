//! Connecting to the first address that accepts.
//!
//! Attempts race as [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305) describes, so that an address that
//! drops packets costs little time. They are also repeated: an attempt whose packets were lost in an outage
//! is slow to try again by itself, since the system doubles its waits.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use socket2::{SockRef, TcpKeepalive};

use super::deadline::left;

/// How long to wait for an attempt before the next address is tried.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long until all addresses have been tried again.
const REPEAT_INTERVAL: Duration = Duration::from_millis(500);
/// With many addresses, attempts start at this interval at least.
const MIN_DELAY: Duration = Duration::from_millis(125);
/// An attempt ends after this long. Later ones to the same address have replaced it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// A silent server is probed after this long.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

/// Attempts to connect, each on a thread of its own. Those that lose the race end within
/// [`ATTEMPT_TIMEOUT`], and close what they have connected.
struct ConnectRace {
    /// The addresses that have not refused, the next one first.
    candidates: VecDeque<SocketAddr>,
    /// How many of the first candidates have not been tried.
    untried: usize,
    /// The interval at which attempts are repeated.
    repeat_delay: Duration,
    deadline: Instant,
    sender: Sender<Outcome>,
    outcomes: Receiver<Outcome>,
    /// The most telling failure.
    failure: io::Error,
}

type Outcome = (SocketAddr, io::Result<TcpStream>);

/// Connects to the first address that accepts.
pub(crate) fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    ConnectRace::new(addresses, deadline).run()
}

impl ConnectRace {
    fn new(addresses: &[SocketAddr], deadline: Instant) -> Self {
        let candidates = interleave(addresses);
        let untried = candidates.len();
        let number = u32::try_from(untried).unwrap_or(u32::MAX).max(1);
        let (sender, outcomes) = unbounded();
        let kind = if untried == 0 {
            io::ErrorKind::NotFound
        } else {
            io::ErrorKind::TimedOut
        };
        Self {
            candidates,
            untried,
            repeat_delay: (REPEAT_INTERVAL / number).max(MIN_DELAY),
            deadline,
            sender,
            outcomes,
            failure: kind.into(),
        }
    }

    fn run(mut self) -> io::Result<TcpStream> {
        let mut delay = ATTEMPT_DELAY;
        while let Some(address) = self.next_candidate()
            && let Ok(left) = left(self.deadline)
        {
            self.start_attempt(address, left.min(ATTEMPT_TIMEOUT))?;
            let next = Instant::now() + delay;
            if let Some(stream) = self.wait(next.min(self.deadline)) {
                return Ok(stream);
            }
            if self.untried == 0 {
                delay = self.repeat_delay;
            }
        }
        Err(self.failure)
    }

    fn next_candidate(&mut self) -> Option<SocketAddr> {
        let address = self.candidates.pop_front()?;
        self.candidates.push_back(address);
        self.untried = self.untried.saturating_sub(1);
        Some(address)
    }

    fn start_attempt(&self, address: SocketAddr, timeout: Duration) -> io::Result<()> {
        let sender = self.sender.clone();
        thread::Builder::new()
            .name("pow_redis_tcp".to_owned())
            .spawn(move || {
                let outcome = attempt(&address, timeout);
                // After the race there is no receiver, and the connection is closed.
                let _ = sender.send((address, outcome));
            })
            .map(drop)
    }

    /// Waits for a connection, until it is time for the next attempt.
    fn wait(&mut self, until: Instant) -> Option<TcpStream> {
        while let Ok((address, outcome)) = self.outcomes.recv_deadline(until) {
            match outcome {
                Ok(stream) => return Some(stream),
                Err(error) => self.failed(address, error),
            }
            if self.untried > 0 || self.candidates.is_empty() {
                return None;
            }
        }
        None
    }

    /// An address that has refused is not tried again; one that has not answered is.
    fn failed(&mut self, address: SocketAddr, error: io::Error) {
        if error.kind() != io::ErrorKind::TimedOut {
            self.candidates.retain(|candidate| *candidate != address);
        }
        if tells(error.kind()) > tells(self.failure.kind()) {
            self.failure = error;
        }
    }
}

/// The addresses, each once, in turn of the first one's family and of the other.
fn interleave(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first() else {
        return VecDeque::new();
    };
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(address) {
            seen.push(*address);
        }
    }
    let is_like_first = |address: &SocketAddr| address.is_ipv4() == first.is_ipv4();
    let (same, other): (Vec<_>, Vec<_>) = seen.into_iter().partition(is_like_first);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut turns = VecDeque::new();
    loop {
        let turn = (same.next(), other.next());
        if turn == (None, None) {
            return turns;
        }
        turns.extend(turn.0);
        turns.extend(turn.1);
    }
}

/// How much a kind of failure tells about the server. Without IPv6, a host's IPv6 address always fails.
const fn tells(kind: io::ErrorKind) -> u8 {
    match kind {
        io::ErrorKind::ConnectionRefused => 4,
        io::ErrorKind::TimedOut => 2,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => 1,
        io::ErrorKind::NotFound => 0,
        _ => 3,
    }
}

fn attempt(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, timeout)?;
    set_options(&stream)?;
    Ok(stream)
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    // Nagle's algorithm would make concurrent requests wait for a round trip.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // Lost packets are sent again at constant intervals. Those of exponential backoff would outlast an
    // outage of the network by as long as it took.
    #[cfg(target_os = "linux")]
    socket.set_tcp_thin_linear_timeouts(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(60);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn refusing() -> SocketAddr {
        listener().1
    }

    /// A listener that drops packets, since its queue of connections to accept is full, and the
    /// connections in the queue.
    fn silent() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let queued = std::iter::from_fn(|| fill().ok()).collect();
        (listener, address, queued)
    }

    #[test]
    fn connects_to_the_first_address_that_accepts() {
        let ((_listener, address), (_second, other)) = (listener(), listener());
        let addresses = [refusing(), address, other];
        let stream = connect(&addresses, Instant::now() + LONG).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }

    #[test]
    fn a_silent_address_does_not_delay_the_next() {
        let ((_queue, silent, _queued), (_listener, address)) = (silent(), listener());
        let begin = Instant::now();
        let stream = connect(&[silent, address], begin + LONG).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!((ATTEMPT_DELAY..LONG / 4).contains(&begin.elapsed()));
    }

    #[test]
    fn a_slow_address_wins_while_others_are_tried() {
        let (queue, slow, queued) = silent();
        let ((_queue, silent, _queued), refusing) = (silent(), refusing());
        let begin = Instant::now();
        let connecting = thread::spawn(move || connect(&[silent, slow, refusing], begin + LONG));
        // Until here the slow address is as silent as the other.
        thread::sleep(2 * ATTEMPT_DELAY);
        for _ in queued {
            queue.accept().unwrap();
        }
        let stream = connecting.join().unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), slow);
    }

    #[test]
    fn lost_packets_are_not_waited_for() {
        let (queue, address, queued) = silent();
        let connecting = thread::spawn(move || connect(&[address], Instant::now() + LONG));
        // The system sends the first attempt's packets again after 1, 3 and 7 seconds.
        thread::sleep(Duration::from_millis(3_300));
        for _ in queued {
            queue.accept().unwrap();
        }
        let begin = Instant::now();
        connecting.join().unwrap().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn addresses_that_refuse_are_not_waited_for() {
        let addresses = [refusing(), refusing()];
        let begin = Instant::now();
        let error = connect(&addresses, begin + LONG).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(begin.elapsed() < LONG / 4);
    }

    #[test]
    fn the_most_telling_failure_is_reported() {
        let (_queue, silent, _queued) = silent();
        for addresses in [[silent, refusing()], [refusing(), silent]] {
            let begin = Instant::now();
            let deadline = begin + 2 * ATTEMPT_DELAY;
            let error = connect(&addresses, deadline).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            assert!(begin.elapsed() >= 2 * ATTEMPT_DELAY, "given up too early");
        }
        let kinds = [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::TimedOut,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::NotFound,
        ];
        for pair in kinds.windows(2) {
            assert!(tells(pair[0]) > tells(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn a_silent_address_times_out() {
        let (_queue, silent, _queued) = silent();
        let begin = Instant::now();
        let error = connect(&[silent], begin + ATTEMPT_DELAY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((ATTEMPT_DELAY..LONG / 4).contains(&begin.elapsed()));
    }

    #[test]
    fn without_addresses_or_time_nothing_is_tried() {
        let error = connect(&[], Instant::now() + LONG).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let (listener, address) = listener();
        let error = connect(&[address], Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
    }

    #[test]
    fn attempts_are_repeated_more_often_for_many_addresses_but_not_endlessly() {
        let addresses: Vec<SocketAddr> =
            (1..=9).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let delay = |number| {
            let deadline = Instant::now() + LONG;
            ConnectRace::new(&addresses[..number], deadline).repeat_delay
        };
        assert_eq!(delay(1), Duration::from_millis(500));
        assert_eq!(delay(2), Duration::from_millis(250));
        assert_eq!(delay(9), MIN_DELAY);
    }

    #[test]
    fn families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (four, six) = (
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(address),
            ["[fd00::1]:1", "[fd00::2]:1"].map(address),
        );
        let system = [six[0], six[1], six[0], four[0], four[1], four[2]];
        let expected = [six[0], four[0], six[1], four[1], four[2]];
        assert_eq!(interleave(&system), expected);
        assert_eq!(interleave(&[four[0], four[1]]), [four[0], four[1]]);
        assert!(interleave(&[]).is_empty());
    }
}
