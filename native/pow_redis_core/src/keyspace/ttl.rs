//! The time to live (TTL) of records, and of the index sets that list them.

use redis::Cmd;

use crate::resp::commands::Commands;
use crate::seal;

/// The number of commands that [`Ttl::write_pexpire`] appends.
pub(crate) const PEXPIRE_COMMANDS: usize = 2;
/// The longest TTL of an index set, in milliseconds: 300,000 years. A set with a persistent member has it: a
/// set without a TTL would get the shorter one of the next put, whose `NX` would apply.
const MAX_TTL_MS: i64 = 10_000_000_000_000_000;
/// How much longer an index set lives than a record just added to it, in milliseconds: values are set after
/// their index entries, and must not outlive them.
const MARGIN_MS: i64 = 60_000;
/// The least time between the score of a member and its purge: one day, in milliseconds. The score is a time
/// on a clock that may have been wrong, but the value expires on Redis's own.
const MIN_PURGE_MARGIN_MS: i64 = 24 * 60 * 60 * 1_000;

/// The time to live of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Expires after this many milliseconds.
    Millis(i64),
    /// Never expires.
    Persistent,
}

impl Ttl {
    /// The TTL in the reply to `PTTL`. Returns `None` if the Redis key does not exist.
    pub(crate) const fn from_pttl(reply: i64) -> Option<Self> {
        match reply {
            -2 => None,
            ..0 => Some(Self::Persistent),
            ms => Some(Self::Millis(ms)),
        }
    }

    /// The milliseconds that it has, but not more than `limit_ms`.
    pub(crate) fn min_ms(self, limit_ms: i64) -> i64 {
        match self {
            Self::Millis(ms) => ms.min(limit_ms),
            Self::Persistent => limit_ms,
        }
    }

    /// The TTL of an index set that lists the record, in milliseconds.
    const fn set_ttl_ms(self) -> i64 {
        match self {
            Self::Millis(ms) => ms.saturating_add(MARGIN_MS),
            Self::Persistent => MAX_TTL_MS,
        }
    }

    /// How long after their scores the members of an index set with such a record are purged, in
    /// milliseconds.
    pub(super) const fn purge_margin_ms(self) -> i64 {
        match self {
            Self::Millis(ms) if ms < MIN_PURGE_MARGIN_MS => MIN_PURGE_MARGIN_MS,
            Self::Millis(ms) => ms,
            Self::Persistent => MAX_TTL_MS,
        }
    }

    /// When a record with this TTL expires, in Unix milliseconds, or [`seal::NEVER`].
    pub(crate) const fn expires_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Millis(ms) => now_ms.saturating_add(ms),
            Self::Persistent => seal::NEVER,
        }
    }

    /// Appends the record's score in index sets: the time at which it expires.
    pub(crate) fn write_score(self, now_ms: i64, command: &mut Cmd) {
        match self {
            Self::Millis(ms) => command.arg(now_ms.saturating_add(ms)),
            Self::Persistent => command.arg("+inf"),
        };
    }

    /// Appends the command that lets a Redis key live at least as long.
    pub(crate) fn write_lengthen(self, redis_key: &[u8], commands: &mut Commands) {
        commands.push("PEXPIRE", redis_key, |command| {
            command.arg(self.min_ms(MAX_TTL_MS)).arg("GT");
        });
    }

    /// Appends the commands that make an index set live longer than the record.
    pub(crate) fn write_pexpire(self, set: &[u8], commands: &mut Commands) {
        // For `GT`, a set without a TTL never expires, so `NX` must come first.
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
    fn index_sets_outlive_their_members() {
        for (ttl, text) in [
            (Ttl::Millis(1_000), "61000"),
            (Ttl::Persistent, "10000000000000000"),
        ] {
            let mut commands = Commands::new();
            ttl.write_pexpire(b"s", &mut commands);
            let expected = ["NX", "GT"].map(|condition| format!("PEXPIRE s {text} {condition}"));
            assert_eq!(lines(commands.as_bytes()), expected);
        }
    }

    #[test]
    fn is_limited_and_lengthened() {
        assert_eq!(Ttl::Millis(2).min_ms(3), 2);
        assert_eq!(Ttl::Millis(4).min_ms(3), 3);
        assert_eq!(Ttl::Persistent.min_ms(3), 3);
        let mut commands = Commands::new();
        Ttl::Millis(2).write_lengthen(b"k", &mut commands);
        Ttl::Persistent.write_lengthen(b"k", &mut commands);
        let expected = ["PEXPIRE k 2 GT", "PEXPIRE k 10000000000000000 GT"];
        assert_eq!(lines(commands.as_bytes()), expected);
    }

    #[test]
    fn members_are_purged_a_day_or_a_ttl_after_their_scores() {
        const DAY: i64 = 86_400_000;
        for (ttl, margin) in [
            (Ttl::Millis(0), DAY),
            (Ttl::Millis(DAY - 1), DAY),
            (Ttl::Millis(DAY + 1), DAY + 1),
            (Ttl::Persistent, MAX_TTL_MS),
        ] {
            assert_eq!(ttl.purge_margin_ms(), margin, "{ttl:?}");
        }
    }

    #[test]
    fn reads_the_reply_to_pttl() {
        assert_eq!(Ttl::from_pttl(-2), None);
        assert_eq!(Ttl::from_pttl(-1), Some(Ttl::Persistent));
        assert_eq!(Ttl::from_pttl(0), Some(Ttl::Millis(0)));
    }
}
