//! When to reconnect.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

const MIN_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Delays that double after each failure, up to 30 s. The first retry is immediate.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    next: Instant,
    /// When the next try is due while a request waits.
    hurried: Instant,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            failures: 0,
            next: now,
            hurried: now,
        }
    }

    /// When the next try is due. It is due within half a second while a request waits.
    pub(crate) const fn next(&self, request_waits: bool) -> Instant {
        if request_waits {
            self.hurried
        } else {
            self.next
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// A try that began at `start` has failed, or a connection was lost then. The delays count from there: a
    /// try that took long is followed at once.
    pub(crate) fn failed(&mut self, start: Instant) {
        let delay = delay(self.failures);
        let jitter = jitter();
        self.next = start + delay.mul_f64(jitter);
        self.hurried = start + delay.min(MIN_DELAY).mul_f64(jitter);
        self.failures = self.failures.saturating_add(1);
    }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => MIN_DELAY
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(MAX_DELAY),
    }
}

/// Between 0.5 and 1, so that hosts do not all reconnect at the same moment.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    let thousandth = u32::try_from(random % 500).unwrap_or_default();
    0.5 + f64::from(thousandth) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn grows_to_thirty_seconds() {
        let delays = [0, 1, 2, 3, 7, 100].map(|failures| delay(failures).as_millis());
        assert_eq!(delays, [0, 500, 1_000, 2_000, 30_000, 30_000]);
        for _ in 0..1_000 {
            assert!((0.5..1.0).contains(&jitter()));
        }
        let different: HashSet<_> = (0..100).map(|_| jitter().to_bits()).collect();
        assert!(different.len() > 10, "{different:?}");
    }

    #[test]
    fn the_first_retry_after_a_success_is_immediate() {
        let mut backoff = Backoff::new();
        let start = Instant::now();
        backoff.failed(start);
        assert_eq!(backoff.next(false), start);
        backoff.failed(start);
        assert!(backoff.next(false) >= start + MIN_DELAY / 2);
        backoff.succeeded();
        backoff.failed(start);
        assert_eq!(backoff.next(false), start);
    }

    #[test]
    fn retries_soon_while_a_request_waits() {
        let mut backoff = Backoff::new();
        let start = Instant::now();
        (0..10).for_each(|_| backoff.failed(start));
        assert!((MAX_DELAY / 2..MAX_DELAY).contains(&(backoff.next(false) - start)));
        assert!((MIN_DELAY / 2..MIN_DELAY).contains(&(backoff.next(true) - start)));
    }
}
