//! Waiting without putting the thread to sleep.

use std::thread;
use std::time::{Duration, Instant};

/// How long to spin. Waking a sleeping thread takes about as long.
const MAX_SPIN: Duration = Duration::from_micros(50);
/// A wait this short, including the wake-up, is likely to be shorter for a thread that spins.
const SHORT_WAIT: Duration = Duration::from_micros(200);
/// A yield that takes this long shows that other threads keep the processor.
const CONTENDED: Duration = Duration::from_millis(1);
/// How long not to yield after such a yield: each would cost the thread its turn.
const COOLDOWN: Duration = Duration::from_millis(250);

/// How a thread waits: it spins if the last wait was short, and yields the processor between polls,
/// unless others keep the processor.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WaitStrategy {
    spin: AdaptiveSpin,
    yields: YieldPolicy,
}

/// Whether to spin: if the last wait was short.
#[derive(Debug, Default, Clone, Copy)]
struct AdaptiveSpin {
    last_wait_was_short: bool,
}

/// Whether to yield: unless others kept the processor the last time.
#[derive(Debug, Default, Clone, Copy)]
struct YieldPolicy {
    paused_until: Option<Instant>,
}

impl WaitStrategy {
    /// Whether to spin before sleeping.
    pub(crate) fn is_worthwhile(self) -> bool {
        self.spin.last_wait_was_short && self.yields.is_worthwhile()
    }

    /// Polls for a short time, if that is worthwhile. Yields the processor between polls.
    pub(crate) fn poll<T>(&mut self, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
        if !self.is_worthwhile() {
            return None;
        }
        let start = Instant::now();
        loop {
            let found = poll();
            if found.is_some() || start.elapsed() >= MAX_SPIN {
                return found;
            }
            self.yields.yield_now();
        }
    }

    /// Records how long a wait took.
    pub(crate) fn record_wait(&mut self, duration: Duration) {
        self.spin.last_wait_was_short = duration < SHORT_WAIT;
    }
}

impl YieldPolicy {
    fn is_worthwhile(self) -> bool {
        self.paused_until
            .is_none_or(|until| Instant::now() >= until)
    }

    fn yield_now(&mut self) {
        let start = Instant::now();
        thread::yield_now();
        self.record(start.elapsed());
    }

    /// Records how long a yield took.
    fn record(&mut self, duration: Duration) {
        self.paused_until = (duration >= CONTENDED).then(|| Instant::now() + COOLDOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spinning() -> WaitStrategy {
        let mut wait = WaitStrategy::default();
        wait.record_wait(Duration::ZERO);
        wait
    }

    #[test]
    fn spins_after_a_short_wait() {
        let mut wait = WaitStrategy::default();
        assert_eq!(wait.poll(|| Some(1)), None);
        wait.record_wait(Duration::from_micros(1));
        assert_eq!(wait.poll(|| Some(1)), Some(1));
        wait.record_wait(Duration::from_secs(1));
        assert_eq!(wait.poll(|| Some(1)), None);
    }

    #[test]
    fn stops_spinning_after_a_while() {
        let mut wait = spinning();
        let start = Instant::now();
        let mut polls = 0;
        let found = wait.poll(|| {
            polls += 1;
            None::<u8>
        });
        assert_eq!(found, None);
        assert!(polls > 0 && start.elapsed() >= MAX_SPIN);
    }

    #[test]
    fn neither_spins_nor_yields_for_a_while_after_a_slow_yield() {
        let mut wait = spinning();
        let before = Instant::now();
        wait.yields.record(CONTENDED);
        assert!(wait.yields.paused_until >= Some(before + COOLDOWN));
        wait.yields.paused_until = Some(before + Duration::from_secs(60));
        assert!(!wait.is_worthwhile() && wait.poll(|| Some(1)).is_none());
        wait.yields.paused_until = Some(Instant::now());
        assert!(wait.is_worthwhile());
        wait.yields.record(Duration::ZERO);
        assert_eq!(wait.poll(|| Some(1)), Some(1));
    }
}
