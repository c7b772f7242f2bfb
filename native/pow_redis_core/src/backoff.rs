//! When to connect again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Waits longer after each failure, up to half a minute. The first try is made at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    next: Instant,
    /// When the next try is due while somebody waits.
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

    /// When the next try is due: soon while somebody waits.
    pub(crate) const fn next(&self, somebody_waits: bool) -> Instant {
        if somebody_waits {
            self.hurried
        } else {
            self.next
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn failed(&mut self) {
        let delay = delay(self.failures);
        let jitter = jitter();
        let now = Instant::now();
        self.next = now + delay.mul_f64(jitter);
        self.hurried = now + delay.min(SHORTEST).mul_f64(jitter);
        self.failures = self.failures.saturating_add(1);
    }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => SHORTEST
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(LONGEST),
    }
}

/// Between a half and one, so that hosts do not come back all at the same moment.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    let thousandth = u32::try_from(random % 500).unwrap_or_default();
    0.5 + f64::from(thousandth) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_half_a_minute() {
        let delays = [0, 1, 2, 3, 7, 100].map(|failures| delay(failures).as_millis());
        assert_eq!(delays, [0, 500, 1_000, 2_000, 30_000, 30_000]);
        for _ in 0..1_000 {
            assert!((0.5..1.0).contains(&jitter()));
        }
    }

    #[test]
    fn the_first_try_after_a_success_is_at_once() {
        let mut backoff = Backoff::new();
        backoff.failed();
        assert!(backoff.next(false) <= Instant::now());
        let before = Instant::now();
        backoff.failed();
        assert!(backoff.next(false) >= before + SHORTEST / 2);
        backoff.succeeded();
        backoff.failed();
        assert!(backoff.next(false) <= Instant::now());
    }

    #[test]
    fn whoever_waits_is_not_kept_waiting_for_long() {
        let mut backoff = Backoff::new();
        let before = Instant::now();
        for _ in 0..10 {
            backoff.failed();
        }
        assert!(backoff.next(false) >= before + LONGEST / 2);
        assert!(backoff.next(true) <= Instant::now() + SHORTEST);
    }
}
