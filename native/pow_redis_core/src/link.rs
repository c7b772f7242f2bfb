//! Whether Redis can be reached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// What the workers know together of the way to Redis. It is up while one of them is connected.
#[derive(Debug)]
pub(crate) struct Link {
    started: Instant,
    /// Milliseconds from `started` to when the link went down, plus one; 0 while it is up.
    down_since: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connected: usize,
    /// What was last told: up, down, or nothing yet.
    told: Option<bool>,
    /// Why the last try to connect failed, while it is down.
    failure: Option<Error>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            down_since: AtomicU64::new(1),
            state: Mutex::default(),
        }
    }

    /// A worker has connected. `true` if that is news.
    pub(crate) fn connected(&self) -> bool {
        self.with(|state| {
            state.connected += 1;
            state.failure = None;
            self.down_since.store(0, Ordering::Release);
            state.told.replace(true) != Some(true)
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

    /// A worker could not connect. `true` if that is news.
    pub(crate) fn failed(&self, error: &Error) -> bool {
        self.with(|state| {
            if state.connected > 0 {
                return false;
            }
            state.failure = Some(error.clone());
            state.told.replace(false) != Some(false)
        })
    }

    /// Why nobody can connect, if that is known.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.with(|state| state.failure.clone())
            .filter(|error| *error.kind() != ErrorKind::Timeout)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.down_since.load(Ordering::Acquire) == 0
    }

    /// How long the link has been down.
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
        let link = Link::new();
        assert!(link.down_for().is_some());
        assert!(link.connected());
        assert!(!link.connected());
        link.lost();
        assert!(link.is_up() && link.down_for().is_none());
        link.lost();
        assert!(!link.is_up() && link.down_for().is_some());
    }

    #[test]
    fn a_drop_is_news_only_if_connecting_again_fails() {
        let link = Link::new();
        link.connected();
        link.lost();
        assert!(!link.connected());
        link.lost();
        let refused = ErrorKind::Unresolved.into();
        assert!(link.failed(&refused));
        assert!(!link.failed(&refused));
        assert_eq!(link.failure(), Some(refused));
        assert!(link.connected());
        assert_eq!(link.failure(), None);
    }
}
