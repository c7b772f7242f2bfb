//! Times to live, of records and of the index sets that list them.

use redis::Cmd;

use crate::resp::commands::Commands;

/// The number of commands that [`Ttl::write_pexpire`] appends.
pub(crate) const PEXPIRE_COMMANDS: usize = 2;
/// The longest TTL of an index set, in milliseconds: 300,000 years. A set with a persistent member gets
/// it, since the `NX` of the next put would give a set without expiry that put's shorter TTL.
const MAX_TTL_MS: i64 = 10_000_000_000_000_000;
/// An index set outlives the members just added by this many milliseconds: values are set after their
/// index, and must not outlive it.
const MARGIN_MS: i64 = 60_000;

/// A record's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Expires after this many milliseconds.
    Millis(i64),
    /// Never expires.
    Persistent,
}

impl Ttl {
    /// The TTL of what expires at a Unix time in milliseconds.
    pub(crate) fn until_ms(expires_at_ms: i64, now_ms: i64) -> Self {
        if expires_at_ms >= MAX_TTL_MS {
            Self::Persistent
        } else {
            Self::Millis(expires_at_ms.saturating_sub(now_ms).max(0))
        }
    }

    /// When a record expires, in Unix milliseconds.
    pub(crate) const fn expires_at_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Millis(ms) => now_ms.saturating_add(ms),
            Self::Persistent => MAX_TTL_MS,
        }
    }

    /// When an index set that lists the record expires, in Unix milliseconds.
    pub(crate) const fn set_expires_at_ms(self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.set_ttl_ms())
    }

    /// The TTL of an index set that lists the record, in milliseconds.
    const fn set_ttl_ms(self) -> i64 {
        match self {
            Self::Millis(ms) => ms.saturating_add(MARGIN_MS),
            Self::Persistent => MAX_TTL_MS,
        }
    }

    /// Appends the record's score in an index set: when it expires.
    pub(crate) fn write_score(self, now_ms: i64, command: &mut Cmd) {
        match self {
            Self::Millis(ms) => command.arg(now_ms.saturating_add(ms)),
            Self::Persistent => command.arg("+inf"),
        };
    }

    /// Appends the commands that keep an index set at least as long as the record.
    pub(crate) fn write_pexpire(self, set: &[u8], commands: &mut Commands) {
        // `GT` counts a set without expiry as one that never expires, so `NX` has to come first.
        for condition in ["NX", "GT"] {
            commands.push("PEXPIRE", set, |command| {
                command.arg(self.set_ttl_ms()).arg(condition);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::testing::lines;

    #[test]
    fn a_set_outlives_its_members() {
        for (ttl, text) in [
            (Ttl::Millis(1_000), "61000"),
            (Ttl::Persistent, "10000000000000000"),
        ] {
            let mut commands = Commands::new();
            ttl.write_pexpire(b"s", &mut commands);
            let expected = ["NX", "GT"].map(|condition| format!("PEXPIRE s {text} {condition}"));
            assert_eq!(lines(commands.as_bytes()), expected);
            assert!(ttl.set_expires_at_ms(5) > ttl.expires_at_ms(5));
        }
    }

    #[test]
    fn a_ttl_is_known_from_its_expiry() {
        for ttl in [Ttl::Millis(1_000), Ttl::Persistent] {
            assert_eq!(Ttl::until_ms(ttl.expires_at_ms(5), 5), ttl);
        }
        assert_eq!(Ttl::until_ms(5, 7), Ttl::Millis(0));
    }
}
