//! The clock of the Redis server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::Value;

/// The server's clock, read with `TIME` and advanced by the monotonic clock in between. Hosts that share a
/// server thus agree on what has expired.
#[derive(Clone, Copy, Debug)]
pub struct ServerClock {
    unix_ms: i64,
    read_at: Instant,
    /// When the server was last asked.
    asked_at: Instant,
    round_trip: Duration,
    is_local: bool,
}

impl ServerClock {
    /// The host's own clock, for a server that does not report its time.
    pub fn local(round_trip: Duration) -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Self {
            is_local: true,
            ..Self::server(unix_ms, round_trip)
        }
    }

    /// A clock that the server has just read, in Unix milliseconds.
    pub fn server(unix_ms: i64, round_trip: Duration) -> Self {
        let now = Instant::now();
        Self {
            unix_ms,
            read_at: now,
            asked_at: now,
            round_trip,
            is_local: false,
        }
    }

    /// The same clock, when the server was asked and did not tell its time.
    #[must_use]
    pub(crate) fn kept(self) -> Self {
        Self {
            asked_at: Instant::now(),
            ..self
        }
    }

    /// The same clock, asked longer ago.
    #[cfg(test)]
    pub(super) fn asked_before(self, age: Duration) -> Self {
        Self {
            asked_at: self.asked_at - age,
            ..self
        }
    }

    /// How long ago the server was asked.
    pub(crate) fn age(&self) -> Duration {
        self.asked_at.elapsed()
    }

    /// Whether it is the host's own clock.
    pub(crate) const fn is_local(&self) -> bool {
        self.is_local
    }

    /// The time in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.unix_ms.saturating_add(elapsed)
    }

    /// The round-trip time of the last `TIME`.
    pub const fn round_trip(&self) -> Duration {
        self.round_trip
    }
}

/// The reply to `TIME` in Unix milliseconds.
pub(crate) fn unix_ms(time: &Value) -> Option<i64> {
    let number = |value: &Value| match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse::<i64>().ok(),
        _ => None,
    };
    let Value::Array(parts) = time else {
        return None;
    };
    match parts.as_slice() {
        [seconds, microseconds] => number(seconds)?
            .checked_mul(1_000)?
            .checked_add(number(microseconds)? / 1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_from_the_time_of_the_server() {
        let clock = ServerClock::server(1_000, Duration::ZERO);
        assert!((1_000..61_000).contains(&clock.now_ms()));
        assert!(ServerClock::local(Duration::ZERO).now_ms() > 1_700_000_000_000);
    }

    #[test]
    fn knows_where_and_when_it_was_read() {
        let round_trip = Duration::from_millis(7);
        let clock = ServerClock::server(1_000, round_trip);
        assert_eq!((clock.is_local(), clock.round_trip()), (false, round_trip));
        let clock = ServerClock::local(round_trip);
        assert_eq!((clock.is_local(), clock.round_trip()), (true, round_trip));
    }

    #[test]
    fn a_kept_clock_was_asked_now() {
        let hour = Duration::from_secs(3_600);
        let clock = ServerClock::server(1_000, Duration::ZERO).asked_before(hour);
        assert!(clock.age() >= hour);
        assert!(clock.kept().age() < hour);
    }
}
