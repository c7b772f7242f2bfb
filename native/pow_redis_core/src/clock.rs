//! The time on the Redis server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::Value;

/// The server's clock, read from time to time with `TIME` and followed by our own monotonic clock
/// in between. All hosts that share a server so agree on what has expired.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    unix_ms: i64,
    read_at: Instant,
    round_trip: Duration,
}

impl Clock {
    /// Our own clock, for a server that does not tell the time.
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

    /// The server's clock, which showed this many milliseconds since 1970 just now.
    pub fn server(unix_ms: i64, round_trip: Duration) -> Self {
        Self {
            unix_ms,
            read_at: Instant::now(),
            round_trip,
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.unix_ms.saturating_add(elapsed)
    }

    /// How long the server's answer took when it was asked for the time.
    pub const fn round_trip(&self) -> Duration {
        self.round_trip
    }
}

/// What `TIME` answers, in milliseconds since 1970.
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
    fn goes_on_from_where_the_server_was() {
        let clock = Clock::server(1_000, Duration::ZERO);
        assert!((1_000..61_000).contains(&clock.now_ms()));
        assert!(Clock::local(Duration::ZERO).now_ms() > 1_700_000_000_000);
    }
}
