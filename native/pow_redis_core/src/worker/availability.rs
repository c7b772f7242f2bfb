//! Whether Redis can be reached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// Whether Redis can be reached. Shared by the workers: it is up while one of them is connected.
#[derive(Debug)]
pub(crate) struct Availability {
    started: Instant,
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
            down_since: AtomicU64::new(1),
            state: Mutex::default(),
        }
    }

    /// A worker has connected. Returns whether to report it.
    pub(crate) fn connected(&self) -> bool {
        self.with(|state| {
            state.connected += 1;
            state.failure = None;
            self.down_since.store(0, Ordering::Release);
            state.reported.replace(true) != Some(true)
        })
    }

    /// A worker has lost its connection.
    pub(crate) fn lost(&self) {
        self.with(|state| {
            state.connected = state.connected.saturating_sub(1);
            if state.connected == 0 {
                let elapsed = u64::try_from(self.started.elapsed().as_millis());
                let since = elapsed.unwrap_or(u64::MAX).saturating_add(1);
                self.down_since.store(since, Ordering::Release);
            }
        });
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
        let since = self.down_since.load(Ordering::Acquire).checked_sub(1)?;
        Some(
            self.started
                .elapsed()
                .saturating_sub(Duration::from_millis(since)),
        )
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
