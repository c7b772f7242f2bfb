//! How soon replies come.

use std::time::{Duration, Instant};

/// How many replies show how soon one comes.
const MANY: u32 = 64;
/// To sleep for less does not pay.
const SHORTEST: Duration = Duration::from_micros(300);
/// However far the server is, nobody sleeps for longer.
const LONGEST: Duration = Duration::from_millis(20);

/// How soon a reply comes at the earliest: as soon as the fastest of the last few.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    fastest: Duration,
    /// The fastest of those that will be the last few.
    next: Option<Duration>,
    replies: u32,
}

impl Pace {
    /// Notes how long a reply took.
    pub(crate) fn took(&mut self, time: Duration) {
        self.fastest = self.fastest.min(time);
        self.next = Some(self.next.map_or(time, |next| next.min(time)));
        self.replies += 1;
        if self.replies == MANY {
            self.fastest = self.next.take().unwrap_or_default();
            self.replies = 0;
        }
    }

    /// Until when no reply comes to what was sent then; nothing if that is too soon to sleep.
    pub(crate) fn no_reply_until(&self, sent: Instant) -> Option<Instant> {
        // Those that are faster than the fastest so far are not to wait for us.
        let quiet = (self.fastest * 3 / 4).min(LONGEST);
        (quiet >= SHORTEST).then(|| sent + quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pace: &Pace) -> Option<Duration> {
        let sent = Instant::now();
        Some(pace.no_reply_until(sent)? - sent)
    }

    fn take(pace: &mut Pace, replies: u32, milliseconds: u64) {
        (0..replies).for_each(|_| pace.took(Duration::from_millis(milliseconds)));
    }

    #[test]
    fn is_that_of_the_fastest() {
        let mut pace = Pace::default();
        take(&mut pace, MANY - 1, 8);
        assert_eq!(after(&pace), None, "not enough replies yet");
        take(&mut pace, 1, 4);
        assert_eq!(after(&pace), Some(Duration::from_millis(3)));
        take(&mut pace, 1, 2);
        assert_eq!(after(&pace), Some(Duration::from_micros(1_500)));
    }

    #[test]
    fn is_forgotten_when_replies_get_slower() {
        let mut pace = Pace::default();
        take(&mut pace, MANY, 2);
        take(&mut pace, MANY - 1, 8);
        assert_eq!(after(&pace), Some(Duration::from_micros(1_500)));
        take(&mut pace, 1, 8);
        assert_eq!(after(&pace), Some(Duration::from_millis(6)));
    }

    #[test]
    fn is_no_reason_to_sleep_for_an_instant_or_for_long() {
        let mut pace = Pace::default();
        take(&mut pace, MANY, 60_000);
        assert_eq!(after(&pace), Some(LONGEST));
        (0..MANY).for_each(|_| pace.took(Duration::from_micros(399)));
        assert_eq!(after(&pace), None);
    }
}
