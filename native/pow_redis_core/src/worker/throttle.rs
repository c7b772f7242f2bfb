//! Throttling listings.

use std::time::{Duration, Instant};

/// A pause is at most this long.
const MAX_PAUSE: Duration = Duration::from_millis(10);

/// How long a worker that lists many keys pauses after each round, so that the calls that other workers
/// serve meanwhile find the server and the processors free: as long as the round took the server.
#[derive(Debug)]
pub(super) struct Throttle {
    sent_at: Instant,
    /// How long the last round took, without the network.
    round: Duration,
    /// The number of calls when that round was sent.
    calls: u64,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            sent_at: Instant::now(),
            round: Duration::ZERO,
            calls: 0,
        }
    }

    /// A round is sent.
    pub(super) fn sent(&mut self, now: Instant, calls: u64) {
        self.sent_at = now;
        self.calls = calls;
    }

    /// The replies of the round have been read.
    pub(super) fn received(&mut self, now: Instant, round_trip: Duration) {
        let round = now.saturating_duration_since(self.sent_at);
        self.round = round.saturating_sub(round_trip);
    }

    /// How long to pause. Zero if no calls have come since the round was sent. One may be the listing's own:
    /// a reindex calls for each page.
    pub(super) fn pause(&self, calls: u64) -> Duration {
        if calls > self.calls + 1 {
            self.round.min(MAX_PAUSE)
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_micros(700);
    const ROUND_TRIP: Duration = Duration::from_micros(300);

    /// After a round that was sent when there had been 10 calls.
    fn after(round: Duration) -> Throttle {
        let mut throttle = Throttle::new();
        let now = Instant::now();
        throttle.sent(now, 10);
        throttle.received(now + round, ROUND_TRIP);
        throttle
    }

    #[test]
    fn pauses_as_long_as_the_round_took_the_server() {
        assert_eq!(after(ROUND).pause(12), ROUND - ROUND_TRIP);
        assert_eq!(after(ROUND_TRIP).pause(12), Duration::ZERO);
        assert_eq!(after(ROUND_TRIP / 2).pause(12), Duration::ZERO);
        assert_eq!(after(Duration::from_secs(1)).pause(12), MAX_PAUSE);
    }

    #[test]
    fn pauses_only_beside_other_calls() {
        let pauses = [10, 11, 12].map(|calls| after(ROUND).pause(calls) > Duration::ZERO);
        assert_eq!(pauses, [false, false, true]);
        assert_eq!(
            Throttle::new().pause(u64::MAX),
            Duration::ZERO,
            "no round yet"
        );
    }
}
