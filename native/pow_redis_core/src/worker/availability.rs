//! Whether Redis can be reached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// For how long after a call workers try to connect often.
const DEMAND: Duration = Duration::from_secs(2);

/// Whether Redis can be reached. Shared by the workers: it is up while one of them is connected.
#[derive(Debug)]
pub(crate) struct Availability {
    started: Instant,
    /// Milliseconds from `started` to the last call while it was down, plus one.
    asked: AtomicU64,
    /// Milliseconds from `started` to the last sign of Redis, plus one.
    replied: AtomicU64,
    /// Milliseconds from `started` to the time since when the last call waited in vain, plus one.
    in_vain: AtomicU64,
    /// Milliseconds from `started` to the last failure of a connection, plus one.
    last_failure: AtomicU64,
    /// Milliseconds from `started` to the moment it went down, plus one; 0 while it is up.
    down_since: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connected: usize,
    /// What was last reported: up, down, or nothing yet.
    reported: Option<bool>,
    /// Why the last connect failed, while it is down.
    failure: Option<Error>,
}

impl Availability {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            asked: AtomicU64::new(0),
            replied: AtomicU64::new(0),
            in_vain: AtomicU64::new(0),
            last_failure: AtomicU64::new(0),
            down_since: AtomicU64::new(1),
            state: Mutex::default(),
        }
    }

    /// A worker has connected. Returns whether to report it.
    pub(crate) fn connected(&self) -> bool {
        self.replied(Instant::now());
        self.with(|state| {
            state.connected += 1;
            state.failure = None;
            self.down_since.store(0, Ordering::Release);
            state.reported.replace(true) != Some(true)
        })
    }

    /// A reply has come. Writes only once a millisecond, since callers read the same cache line.
    pub(crate) fn replied(&self, time: Instant) {
        let stamp = self.stamp_of(time);
        if self.replied.load(Ordering::Acquire) != stamp {
            self.replied.store(stamp, Ordering::Release);
        }
    }

    /// A call that has waited since then has ended without a reply.
    pub(crate) fn waited_in_vain(&self, since: Instant) {
        self.in_vain.store(self.stamp_of(since), Ordering::Release);
        self.ask();
    }

    /// Whether a call has waited in vain, and no reply has come since it waits, but a connection has failed.
    pub(crate) fn is_silent(&self) -> bool {
        let in_vain = self.in_vain.load(Ordering::Acquire);
        if in_vain == 0 {
            return false;
        }
        let replied = self.replied.load(Ordering::Acquire);
        let has_failed = !self.is_up() || self.last_failure.load(Ordering::Acquire) >= replied;
        in_vain >= replied && has_failed
    }

    /// A worker's connection has failed. Those that have been idle since then may have failed as well.
    pub(crate) fn suspect(&self) {
        self.last_failure.store(self.stamp(), Ordering::Release);
    }

    /// A worker has no connection any more.
    pub(crate) fn lost(&self) {
        self.with(|state| {
            state.connected = state.connected.saturating_sub(1);
            if state.connected == 0 {
                self.down_since.store(self.stamp(), Ordering::Release);
            }
        });
    }

    /// When a connection last failed.
    pub(crate) fn last_failure(&self) -> Option<Instant> {
        self.time(self.last_failure.load(Ordering::Acquire))
    }

    /// Notes that a caller has come while it is down. Returns whether others have come lately: the workers
    /// are then trying to connect often.
    pub(crate) fn ask(&self) -> bool {
        let was_asked = self.is_asked();
        self.asked.store(self.stamp(), Ordering::Release);
        was_asked
    }

    /// Whether a caller has come lately while it is down.
    pub(crate) fn is_asked(&self) -> bool {
        self.time(self.asked.load(Ordering::Acquire))
            .is_some_and(|asked| asked.elapsed() < DEMAND)
    }

    /// A worker could not connect. Returns whether to report it.
    pub(crate) fn failed(&self, error: &Error) -> bool {
        self.with(|state| {
            if state.connected > 0 {
                return false;
            }
            state.failure = Some(error.clone());
            state.reported.replace(false) != Some(false)
        })
    }

    /// Why no worker can connect, if there is a reason.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.with(|state| state.failure.clone())
            .map(Error::or_unreachable)
            .filter(|error| *error.kind() != ErrorKind::Timeout)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.down_since.load(Ordering::Acquire) == 0
    }

    /// How long it has been down.
    pub(crate) fn down_for(&self) -> Option<Duration> {
        let since = self.time(self.down_since.load(Ordering::Acquire))?;
        Some(since.elapsed())
    }

    /// The current time for an atomic. Never 0.
    fn stamp(&self) -> u64 {
        self.stamp_of(Instant::now())
    }

    /// A time for an atomic. Never 0.
    fn stamp_of(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.started);
        let milliseconds = u64::try_from(since.as_millis());
        milliseconds.unwrap_or(u64::MAX).saturating_add(1)
    }

    fn time(&self, stamp: u64) -> Option<Instant> {
        let milliseconds = stamp.checked_sub(1)?;
        Some(self.started + Duration::from_millis(milliseconds))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn is_up_while_one_worker_is_connected() {
        let availability = Availability::new();
        assert!(availability.down_for().is_some());
        assert!(availability.connected());
        assert!(!availability.connected());
        availability.lost();
        assert!(availability.is_up() && availability.down_for().is_none());
        availability.lost();
        assert!(!availability.is_up() && availability.down_for().is_some());
    }

    #[test]
    fn a_lost_connection_is_reported_only_if_reconnecting_fails() {
        let availability = Availability::new();
        availability.connected();
        availability.lost();
        assert!(!availability.connected());
        availability.lost();
        let refused = ErrorKind::EndpointUnavailable.into();
        assert!(availability.failed(&refused));
        assert!(!availability.failed(&refused));
        assert_eq!(availability.failure(), Some(refused));
        assert!(availability.connected());
        assert_eq!(availability.failure(), None);
    }

    #[test]
    fn a_failure_counts_only_while_it_is_down() {
        let availability = Availability::new();
        availability.connected();
        assert!(!availability.failed(&ErrorKind::EndpointUnavailable.into()));
        assert_eq!(availability.failure(), None);
    }

    #[test]
    fn is_down_since_the_last_connection_was_lost() {
        let availability = Availability::new();
        availability.connected();
        // Longer than the precision of the stored time.
        thread::sleep(Duration::from_millis(20));
        let before = Instant::now();
        availability.lost();
        let down_for = availability.down_for().unwrap();
        assert!(down_for <= before.elapsed() + Duration::from_millis(1));
    }

    #[test]
    fn knows_whether_callers_have_come_lately() {
        let availability = Availability::new();
        assert!(!availability.is_asked());
        assert!(!availability.ask(), "the first caller");
        assert!(availability.is_asked() && availability.ask());
    }

    #[test]
    fn is_silent_if_no_reply_has_come_since_a_call_that_waited_in_vain() {
        // Longer than the precision of the stored time.
        let pause = || thread::sleep(Duration::from_millis(20));
        let availability = Availability::new();
        assert!(!availability.is_silent());
        let before = Instant::now();
        pause();
        availability.connected();
        availability.waited_in_vain(before);
        availability.suspect();
        assert!(!availability.is_silent(), "a reply has come meanwhile");
        pause();
        availability.replied(Instant::now());
        pause();
        availability.waited_in_vain(Instant::now());
        assert!(!availability.is_silent(), "only a slow call");
        availability.suspect();
        assert!(availability.is_silent() && availability.is_asked());
        pause();
        availability.replied(Instant::now());
        assert!(!availability.is_silent());
        pause();
        availability.waited_in_vain(Instant::now());
        availability.lost();
        assert!(availability.is_silent());
        pause();
        availability.connected();
        assert!(!availability.is_silent());
    }

    #[test]
    fn knows_when_a_connection_last_failed() {
        let availability = Availability::new();
        assert_eq!(availability.last_failure(), None);
        availability.lost();
        assert_eq!(availability.last_failure(), None);
        let before = Instant::now() - Duration::from_millis(1);
        availability.suspect();
        let failure = availability.last_failure().unwrap();
        assert!((before..=Instant::now()).contains(&failure));
    }
}
