//! Connecting to the first address that accepts.
//!
//! Attempts race as [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305) describes, so that an address that
//! drops packets costs little time. Each address is tried once.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use socket2::{SockRef, TcpKeepalive};

use super::deadline::left;

/// How long to wait for an attempt before the next address is tried.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A silent server is probed after this long.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

type Outcome = io::Result<TcpStream>;

/// Connects to the first address that accepts. Each attempt has a thread of its own. Those that lose the race
/// end by the deadline, and close what they have connected.
pub(crate) fn connect(addresses: &[SocketAddr], deadline: Instant) -> Outcome {
    let (sender, outcomes) = unbounded();
    let mut failures = Vec::new();
    for address in interleave(addresses) {
        let left = match left(deadline) {
            Ok(left) => left,
            Err(error) => {
                failures.push(error);
                break;
            }
        };
        start_attempt(address, left, sender.clone())?;
        match outcomes.recv_timeout(left.min(ATTEMPT_DELAY)) {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failures.push(error),
            Err(_) => {}
        }
    }
    drop(sender);
    // Until all attempts have ended.
    for outcome in outcomes {
        match outcome {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(error),
        }
    }
    let failure = failures.into_iter().max_by_key(|error| tells(error.kind()));
    Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn start_attempt(
    address: SocketAddr,
    timeout: Duration,
    sender: Sender<Outcome>,
) -> io::Result<()> {
    thread::Builder::new()
        .name("pow_redis_tcp".to_owned())
        .spawn(move || {
            // After the race there is no receiver, and the connection is closed.
            let _ = sender.send(attempt(&address, timeout));
        })
        .map(drop)
}

/// The addresses, each once, in turn of the first one's family and of the other.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else {
        return Vec::new();
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
    let mut turns = Vec::new();
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
        io::ErrorKind::ConnectionRefused => 3,
        io::ErrorKind::TimedOut => 1,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => 0,
        _ => 2,
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
    fn packets_are_sent_at_once_and_again_and_a_silent_server_is_probed() {
        let (_listener, address) = listener();
        let stream = connect(&[address], Instant::now() + LONG).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert!(socket.tcp_thin_linear_timeouts().unwrap());
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
