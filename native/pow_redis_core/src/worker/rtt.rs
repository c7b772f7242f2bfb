//! The round-trip time to the server.

use std::time::{Duration, Instant};

/// The number of replies that a minimum is taken over.
const WINDOW: u32 = 64;
/// A wait shorter than this is not worth sleeping.
const MIN_WAIT: Duration = Duration::from_micros(300);
/// The longest wait, however distant the server.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// The minimum round-trip time of the last replies.
#[derive(Debug, Default)]
pub(crate) struct MinRtt {
    minimum: Duration,
    /// The minimum of the window that is being filled.
    next: Option<Duration>,
    replies: u32,
}

impl MinRtt {
    /// Records the round-trip time of a reply.
    pub(crate) fn record(&mut self, rtt: Duration) {
        self.minimum = self.minimum.min(rtt);
        self.next = Some(self.next.map_or(rtt, |next| next.min(rtt)));
        self.replies += 1;
        if self.replies == WINDOW {
            self.minimum = self.next.take().unwrap_or_default();
            self.replies = 0;
        }
    }

    /// When to expect the first reply to what was sent at `sent_at`. `None` if that is too soon to sleep
    /// until then.
    pub(crate) fn earliest_reply(&self, sent_at: Instant) -> Option<Instant> {
        // A reply faster than the minimum must not wait for us.
        let wait = (self.minimum * 3 / 4).min(MAX_WAIT);
        (wait >= MIN_WAIT).then(|| sent_at + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rtt: &MinRtt) -> Option<Duration> {
        let sent = Instant::now();
        Some(rtt.earliest_reply(sent)? - sent)
    }

    fn record(rtt: &mut MinRtt, replies: u32, milliseconds: u64) {
        (0..replies).for_each(|_| rtt.record(Duration::from_millis(milliseconds)));
    }

    #[test]
    fn is_the_minimum_of_a_window() {
        let mut rtt = MinRtt::default();
        record(&mut rtt, WINDOW - 1, 8);
        assert_eq!(after(&rtt), None, "the window is not full");
        record(&mut rtt, 1, 4);
        assert_eq!(after(&rtt), Some(Duration::from_millis(3)));
        record(&mut rtt, 1, 2);
        assert_eq!(after(&rtt), Some(Duration::from_micros(1_500)));
    }

    #[test]
    fn follows_replies_that_get_slower() {
        let mut rtt = MinRtt::default();
        record(&mut rtt, WINDOW, 2);
        record(&mut rtt, WINDOW - 1, 8);
        assert_eq!(after(&rtt), Some(Duration::from_micros(1_500)));
        record(&mut rtt, 1, 8);
        assert_eq!(after(&rtt), Some(Duration::from_millis(6)));
    }

    #[test]
    fn waits_neither_for_an_instant_nor_for_long() {
        let mut rtt = MinRtt::default();
        record(&mut rtt, WINDOW, 60_000);
        assert_eq!(after(&rtt), Some(MAX_WAIT));
        (0..WINDOW).for_each(|_| rtt.record(Duration::from_micros(399)));
        assert_eq!(after(&rtt), None);
    }
}
