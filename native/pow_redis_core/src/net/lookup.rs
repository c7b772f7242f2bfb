//! Finding the addresses of a host name.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::bounded;

/// How many lookups may be under way in this process. One whose name servers are silent goes on until the
/// system gives up, often after half a minute.
const MAX_LOOKUPS: usize = 32;

static LOOKUPS: Lookups = Lookups::new(MAX_LOOKUPS);

/// The lookups under way. The system's lookup knows no deadline, so each runs on a thread of its own.
struct Lookups {
    running: AtomicUsize,
    limit: usize,
}

/// Counts as a lookup under way until it is dropped.
struct Permit(&'static Lookups);

/// The addresses of a host name or IP address.
pub(crate) fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    LOOKUPS.run(deadline, move || {
        let addresses = (host.as_str(), port).to_socket_addrs()?;
        Ok(addresses.collect())
    })
}

impl Lookups {
    const fn new(limit: usize) -> Self {
        Self {
            running: AtomicUsize::new(0),
            limit,
        }
    }

    /// Waits for a lookup until the deadline. If too many are under way, does not start it.
    fn run(
        &'static self,
        deadline: Instant,
        lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
        let permit = self.permit().ok_or_else(timed_out)?;
        let (sender, receiver) = bounded(1);
        thread::Builder::new()
            .name("pow_redis_dns".to_owned())
            .spawn(move || {
                let _permit = permit;
                // After the deadline there is no receiver.
                let _ = sender.send(lookup());
            })?;
        receiver
            .recv_deadline(deadline)
            .unwrap_or_else(|_| Err(timed_out()))
    }

    fn permit(&'static self) -> Option<Permit> {
        let permit = Permit(self);
        let running = self.running.fetch_add(1, Ordering::Relaxed);
        (running < self.limit).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn an_ip_address_is_its_own() {
        for (host, address) in [("127.0.0.1", "127.0.0.1:7000"), ("::1", "[::1]:7000")] {
            let addresses = resolve(host, 7000, Instant::now() + LONG).unwrap();
            assert_eq!(addresses, [address.parse().unwrap()]);
        }
    }

    #[test]
    fn a_name_has_addresses() {
        let addresses = resolve("localhost", 7000, Instant::now() + LONG).unwrap();
        assert!(addresses.iter().any(|address| address.ip().is_loopback()));
        assert!(addresses.iter().all(|address| address.port() == 7000));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let outcome = resolve("no such host", 7000, Instant::now() + LONG);
        assert!(outcome.is_err());
    }

    #[test]
    fn lookups_that_hang_are_not_waited_for_and_do_not_pile_up() {
        static FEW: Lookups = Lookups::new(2);
        let (release, released) = bounded::<()>(0);
        for _ in 0..2 {
            let released = released.clone();
            let begin = Instant::now();
            let outcome = FEW.run(begin + SHORT, move || {
                let _ = released.recv();
                Ok(Vec::new())
            });
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!((SHORT..LONG / 2).contains(&begin.elapsed()));
        }
        let begin = Instant::now();
        let outcome = FEW.run(begin + LONG, || Ok(Vec::new()));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() < LONG / 2);
        assert_eq!(FEW.running.load(Ordering::Relaxed), 2);

        drop(release);
        while FEW.running.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        assert!(FEW.run(Instant::now() + LONG, || Ok(Vec::new())).is_ok());
    }
}
