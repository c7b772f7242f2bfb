//! Watching which primary the sentinels name.
//!
//! A primary that was cut off from its sentinels still answers, so its connections show nothing.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::address::Address;
use super::config::{ConnectConfig, Topology};
use super::endpoint::Endpoint;
use super::sentinel::{Primary, newest_primary};
use crate::error::Error;

/// How often the sentinels are asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// They are asked for requests at most once in this time.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// How long asking all of them may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The same while a request waits for it.
const URGENT_TIMEOUT: Duration = Duration::from_secs(1);

/// The primary that the sentinels name, asked for again and again.
#[derive(Debug)]
pub(crate) struct PrimaryWatch {
    sentinels: Vec<Endpoint>,
    group: String,
    latest: Mutex<Latest>,
    /// The epoch in `latest`, to be read without a lock.
    config_epoch: AtomicU64,
}

#[derive(Debug, Default)]
struct Latest {
    primary: Option<Primary>,
    /// When they were last asked for a request.
    asked_now_at: Option<Instant>,
}

impl PrimaryWatch {
    /// Starts a thread that asks while `is_connected`, and ends with the sender of `stop`. Without
    /// sentinels there is nothing to watch.
    pub(crate) fn start(
        config: &ConnectConfig,
        is_connected: impl Fn() -> bool + Send + 'static,
        stop: Receiver<()>,
    ) -> io::Result<Option<Arc<Self>>> {
        let Some(watch) = Self::new(config) else {
            return Ok(None);
        };
        let watch = Arc::new(watch);
        let watched = Arc::clone(&watch);
        thread::Builder::new()
            .name("pow_redis_watch".to_owned())
            .spawn(move || watched.run(&is_connected, &stop, INTERVAL))?;
        Ok(Some(watch))
    }

    fn new(config: &ConnectConfig) -> Option<Self> {
        let Topology::Sentinel { sentinels, group } = &config.topology else {
            return None;
        };
        Some(Self {
            sentinels: sentinels.clone(),
            group: group.clone(),
            latest: Mutex::default(),
            config_epoch: AtomicU64::new(0),
        })
    }

    fn run(&self, is_connected: &impl Fn() -> bool, stop: &Receiver<()>, interval: Duration) {
        while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            if is_connected() {
                // Sentinels that do not answer say nothing against the primary.
                let _ = self.ask(TIMEOUT);
            }
        }
    }

    /// Whether the sentinels have named another primary since they named the one at `address`, in the
    /// configuration `epoch`.
    pub(crate) fn superseded(&self, address: &Address, epoch: u64) -> bool {
        if self.config_epoch.load(Ordering::Acquire) <= epoch {
            return false;
        }
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let primary = latest.primary.as_ref();
        primary.is_some_and(|primary| primary.config_epoch > epoch && primary.address != *address)
    }

    /// Asks the sentinels for a request, unless they have just been asked for another.
    pub(crate) fn ask_now(&self) -> Result<(), Error> {
        let now = Instant::now();
        {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            let last = latest.asked_now_at;
            if last.is_some_and(|at| now < at + MIN_INTERVAL) {
                return Ok(());
            }
            latest.asked_now_at = Some(now);
        }
        self.ask(URGENT_TIMEOUT)
    }

    fn ask(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let primary = newest_primary(&self.sentinels, &self.group, deadline)?;
        self.note(primary);
        Ok(())
    }

    /// Notes that the sentinels named a primary, unless they have named another one since.
    pub(super) fn note(&self, primary: Primary) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = latest.primary.as_ref();
        if known.is_none_or(|known| known.config_epoch <= primary.config_epoch) {
            self.config_epoch
                .store(primary.config_epoch, Ordering::Release);
            latest.primary = Some(primary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeServer, array, wait_until};
    use super::*;
    use crossbeam_channel::bounded;

    /// A sentinel that names this primary: its port, and the epoch.
    fn sentinel(named: &Arc<Mutex<(u16, u64)>>) -> FakeServer {
        let named = Arc::clone(named);
        FakeServer::start(move |_| {
            let (port, epoch) = *named.lock().unwrap();
            let (port, epoch) = (port.to_string(), epoch.to_string());
            let fields = ["ip", "10.0.0.1", "port", &port, "config-epoch", &epoch];
            Some(array(&fields))
        })
    }

    fn address(port: u16) -> Address {
        Address::Tcp {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    #[test]
    fn the_newest_primary_counts() {
        let server = FakeServer::start(|_| None);
        let mut config = ConnectConfig::for_endpoint(server.endpoint(), TIMEOUT);
        config.topology = Topology::Sentinel {
            sentinels: Vec::new(),
            group: "group".to_owned(),
        };
        let watch = PrimaryWatch::new(&config).unwrap();
        for (port, config_epoch) in [(1, 1), (2, 3), (3, 2)] {
            watch.note(Primary {
                address: address(port),
                config_epoch,
            });
        }
        assert!(watch.superseded(&address(1), 1) && watch.superseded(&address(3), 2));
        assert!(!watch.superseded(&address(2), 1), "named again");
        assert!(!watch.superseded(&address(4), 3), "in the same epoch");
    }

    fn config(sentinel: &FakeServer) -> ConnectConfig {
        ConnectConfig {
            topology: Topology::Sentinel {
                sentinels: vec![sentinel.endpoint()],
                group: "mymaster".to_owned(),
            },
            ..ConnectConfig::for_endpoint(Endpoint::new(address(1)), TIMEOUT)
        }
    }

    #[test]
    fn a_primary_is_superseded_by_another_of_a_newer_epoch() {
        let sentinel = sentinel(&Arc::new(Mutex::new((2, 5))));
        let watch = PrimaryWatch::new(&config(&sentinel)).unwrap();
        assert!(!watch.superseded(&address(1), 0), "nothing is known yet");
        watch.ask_now().unwrap();
        for (port, epoch, superseded) in [
            (1, 4, true),
            (1, 5, false),
            (1, 6, false),
            (2, 4, false),
            (2, 5, false),
        ] {
            let is_superseded = watch.superseded(&address(port), epoch);
            assert_eq!(is_superseded, superseded, "{port} {epoch}");
        }
    }

    #[test]
    fn sentinels_are_not_asked_again_at_once() {
        let sentinel = sentinel(&Arc::new(Mutex::new((2, 5))));
        let watch = PrimaryWatch::new(&config(&sentinel)).unwrap();
        watch.ask(TIMEOUT).unwrap();
        for _ in 0..3 {
            watch.ask_now().unwrap();
        }
        assert_eq!(sentinel.received("SENTINEL"), 2, "once for a request");
        watch.latest.lock().unwrap().asked_now_at = Some(Instant::now() - MIN_INTERVAL);
        watch.ask_now().unwrap();
        assert_eq!(sentinel.received("SENTINEL"), 3);
    }

    #[test]
    fn what_was_known_is_kept_while_no_sentinel_answers() {
        let watch = {
            let sentinel = sentinel(&Arc::new(Mutex::new((2, 5))));
            let watch = PrimaryWatch::new(&config(&sentinel)).unwrap();
            watch.ask_now().unwrap();
            watch
        };
        wait_until(|| {
            watch.latest.lock().unwrap().asked_now_at = None;
            watch.ask_now().is_err()
        });
        assert!(watch.superseded(&address(1), 4));
    }

    #[test]
    fn the_thread_asks_while_connected_and_ends_with_the_cache() {
        let named = Arc::new(Mutex::new((1, 4)));
        let sentinel = sentinel(&named);
        let watch = Arc::new(PrimaryWatch::new(&config(&sentinel)).unwrap());
        let (stop, stopped) = bounded(0);
        let connected = Arc::new(Mutex::new(false));
        let running = {
            let (watch, connected) = (Arc::clone(&watch), Arc::clone(&connected));
            let is_connected = move || *connected.lock().unwrap();
            thread::spawn(move || watch.run(&is_connected, &stopped, Duration::from_millis(10)))
        };
        thread::sleep(Duration::from_millis(100));
        assert_eq!(sentinel.received("SENTINEL"), 0);
        *connected.lock().unwrap() = true;
        wait_until(|| sentinel.received("SENTINEL") > 0);
        *named.lock().unwrap() = (2, 5);
        wait_until(|| watch.superseded(&address(1), 4));
        drop(stop);
        running.join().unwrap();
    }

    #[test]
    fn with_sentinels_the_primary_is_watched() {
        let sentinel = sentinel(&Arc::new(Mutex::new((2, 5))));
        let (_stop, stopped) = bounded(0);
        let watch = PrimaryWatch::start(&config(&sentinel), || true, stopped).unwrap();
        watch.unwrap().ask_now().unwrap();
    }

    #[test]
    fn without_sentinels_nothing_is_watched() {
        let config = ConnectConfig::for_endpoint(Endpoint::new(address(1)), TIMEOUT);
        let (_stop, stopped) = bounded(0);
        assert!(
            PrimaryWatch::start(&config, || true, stopped)
                .unwrap()
                .is_none()
        );
    }
}
