//! The clock of the Redis server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::Value;

/// The server's clock, read with `TIME` and advanced by the monotonic clock in between. Hosts that share a
/// server thus agree on what has expired.
#[derive(Clone, Copy, Debug)]
pub struct ServerClock {
    unix_ms: i64,
    read_at: Instant,
    round_trip: Duration,
}

impl ServerClock {
    /// The host's own clock, for a server that does not report its time.
    pub fn local(round_trip: Duration) -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            unix_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
            read_at: Instant::now(),
            round_trip,
        }
    }

    /// A clock that the server has just read, in Unix milliseconds.
    pub fn server(unix_ms: i64, round_trip: Duration) -> Self {
        Self {
            unix_ms,
            read_at: Instant::now(),
            round_trip,
        }
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
pub(crate) fn unix_ms(time: &[Value]) -> Option<i64> {
    let number = |value: &Value| match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse::<i64>().ok(),
        _ => None,
    };
    match time {
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
}
