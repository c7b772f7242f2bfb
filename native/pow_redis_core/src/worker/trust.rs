//! What keeps near values valid while a connection tracks them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::near::{EpochEnd, Validity};
use crate::net::tracking;

/// How long the trust is renewed after a value was last used.
const MAX_DISUSE: Duration = Duration::from_secs(60);

/// What keeps near values valid while a connection tracks them. They are invalid when it is dropped.
pub(super) struct Trust {
    validity: Arc<Validity>,
    /// When the question that was answered last was sent, in microseconds of the boot clock.
    confirmed_at: u64,
    /// When to ask again.
    due: Instant,
    /// When a value was last used.
    used_at: Instant,
}

impl Trust {
    /// The connection tracks from now on. A question was sent at `confirmed_at`, and was answered.
    pub(super) fn new(validity: &Arc<Validity>, confirmed_at: u64) -> Self {
        validity.begin();
        let mut trust = Self {
            validity: Arc::clone(validity),
            confirmed_at: 0,
            due: Instant::now(),
            used_at: Instant::now(),
        };
        trust.renew(confirmed_at);
        trust
    }

    pub(super) fn validity(&self) -> &Validity {
        &self.validity
    }

    /// When to ask again.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Whether to ask now. If nobody reads any more, the next one who does will ask.
    pub(super) fn is_wanted(&mut self, now: Instant) -> bool {
        self.due = now + tracking::interval(&self.validity);
        if self.validity.take_interest() {
            self.used_at = now;
        }
        self.used_at + MAX_DISUSE > now
    }

    /// A question was sent at `confirmed_at`, and was answered.
    pub(super) fn renew(&mut self, confirmed_at: u64) {
        if confirmed_at != self.confirmed_at {
            self.confirmed_at = confirmed_at;
            self.due = Instant::now() + tracking::interval(&self.validity);
            self.validity.answered(confirmed_at);
        }
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        self.validity.end(EpochEnd::ConnectionLost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> (Trust, Arc<Validity>) {
        let validity = Arc::new(Validity::new(Duration::from_secs(30)));
        (Trust::new(&validity, 100), validity)
    }

    #[test]
    fn values_are_valid_while_the_connection_lives() {
        let (mut trust, validity) = trust();
        let stamp = validity.stamp(0).unwrap();
        assert!(validity.is_valid(stamp, 30_000_099) && !validity.is_valid(stamp, 30_000_100));
        trust.renew(200);
        assert!(validity.is_valid(stamp, 30_000_199) && !validity.is_valid(stamp, 30_000_200));
        drop(trust);
        assert!(!validity.is_valid(stamp, 200) && !validity.is_tracking());
    }

    #[test]
    fn asks_three_times_within_the_maximum_staleness() {
        let (mut trust, _validity) = trust();
        let third = Duration::from_secs(10);
        let now = Instant::now();
        assert!(trust.due() <= now + third);
        trust.is_wanted(now);
        assert_eq!(trust.due(), now + third);
        trust.renew(200);
        assert!(trust.due() > now + third);
        let due = trust.due();
        trust.renew(200);
        assert_eq!(trust.due(), due, "nothing was answered since");
    }

    #[test]
    fn is_wanted_until_a_minute_after_a_value_was_used() {
        let (mut trust, validity) = trust();
        let start = Instant::now();
        trust.used_at = start;
        let almost = MAX_DISUSE - Duration::from_millis(1);
        assert!(trust.is_wanted(start + almost) && !trust.is_wanted(start + MAX_DISUSE));
        validity.is_valid(validity.stamp(0).unwrap(), 0);
        assert!(trust.is_wanted(start + MAX_DISUSE));
        assert!(trust.is_wanted(start + MAX_DISUSE + almost));
        assert!(!trust.is_wanted(start + 2 * MAX_DISUSE));
    }
}
