//! Dividing the time that is left.

use std::io;
use std::time::{Duration, Instant};

/// A deadline for one of several tries that share the time until `deadline`, so that one that hangs
/// leaves time for the others.
pub(crate) fn share(deadline: Instant, tries: usize) -> Instant {
    let now = Instant::now();
    let tries = u32::try_from(tries).unwrap_or(u32::MAX).max(1);
    now + deadline.saturating_duration_since(now) / tries
}

/// The remaining time; an error if there is none.
pub(crate) fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_has_its_part() {
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(share(deadline, 3) < deadline - Duration::from_secs(30));
        assert!(share(deadline, 1) <= deadline + Duration::from_millis(1));
        assert!(share(Instant::now(), 0) <= Instant::now());
    }
}
