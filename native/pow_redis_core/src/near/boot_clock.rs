//! A clock that goes on while the host sleeps.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` stands still while Linux sleeps. Elsewhere it does not.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Microseconds since some time before the program started.
pub fn now_us() -> u64 {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let us = u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000;
    seconds.saturating_mul(1_000_000).saturating_add(us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn counts_microseconds() {
        let (start, before) = (Instant::now(), now_us());
        std::thread::sleep(Duration::from_millis(30));
        let (counted, elapsed) = (now_us() - before, start.elapsed().as_micros());
        assert!((29_999..=elapsed + 1).contains(&u128::from(counted)));
    }
}
