//! An index set, and when it and what it lists end.

use super::Counts;
use crate::error::{Error, ErrorKind};
use crate::keyspace::key::Key;
use crate::keyspace::redis_key::RedisKey;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// A set may end so much sooner than a key without being counted, in milliseconds: both ends are not
/// asked for in the same moment.
const TOLERANCE_MS: i64 = 1_000;

/// An index set.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: Vec<u8>,
    prefix: RedisKey,
    /// Where to go on; nothing once all members were read.
    pub(super) cursor: Option<u64>,
    pub(super) ends: Expiry,
    /// The members that were read last: redis_key of the key, and whether their time is over.
    pub(super) members: Vec<(RedisKey, bool)>,
    pub(super) expires_early: bool,
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Expiry {
    /// It is gone.
    Gone,
    /// In so many milliseconds.
    In(i64),
    Never,
}

impl Set {
    pub(super) fn found(name: &[u8]) -> Option<Self> {
        let prefix = RedisKey::of_index_set(name)?;
        Key::from_redis_key(prefix.as_bytes())?;
        Some(Self {
            name: name.to_vec(),
            prefix,
            cursor: Some(0),
            ends: Expiry::Gone,
            members: Vec::new(),
            expires_early: false,
        })
    }

    pub(super) fn read(&mut self, replies: &mut Replies, now_ms: i64) -> Result<(), Error> {
        self.ends = next_end(replies)?;
        let page = unless_wrong_type(replies.next_page())?;
        let (cursor, items) = page.unwrap_or_default();
        self.cursor = (cursor != 0).then_some(cursor);
        let mut items = items.into_iter();
        while let (Some(member), Some(score)) = (items.next(), items.next()) {
            self.members
                .push((self.prefix.join(&member), is_over(&score, now_ms)));
        }
        Ok(())
    }

    pub(super) fn read_members(
        &mut self,
        counts: &mut Counts,
        replies: &mut Replies,
    ) -> Result<(), Error> {
        for (_, over) in std::mem::take(&mut self.members) {
            counts.members += 1;
            match next_end(replies)? {
                Expiry::Gone if over => counts.expired += 1,
                Expiry::Gone => counts.stale += 1,
                ends => self.expires_early |= self.ends.is_before(ends),
            }
        }
        Ok(())
    }
}

impl Expiry {
    const fn is_before(self, other: Self) -> bool {
        match (self, other) {
            (Self::In(set), Self::In(key)) => set.saturating_add(TOLERANCE_MS) < key,
            (Self::In(_), Self::Never) => true,
            (Self::In(_), Self::Gone) | (Self::Never | Self::Gone, _) => false,
        }
    }
}

pub(super) fn write_end(key: &[u8], commands: &mut Commands) {
    commands.push("PTTL", key, |_| ());
}

pub(super) fn next_end(replies: &mut Replies) -> Result<Expiry, Error> {
    Ok(match replies.next_integer()? {
        -2 => Expiry::Gone,
        -1 => Expiry::Never,
        ms => Expiry::In(ms),
    })
}

/// Whether a score, a time in Unix milliseconds, has passed. What is no whole number is `inf`.
fn is_over(score: &[u8], now_ms: i64) -> bool {
    let time = std::str::from_utf8(score).ok().and_then(|s| s.parse().ok());
    time.is_some_and(|time: i64| time <= now_ms)
}

/// What lies under our names need not be ours.
pub(super) fn unless_wrong_type<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_wrong_type(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_wrong_type(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "WRONGTYPE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_may_end_a_moment_before_its_members() {
        assert!(!Expiry::In(1_000).is_before(Expiry::In(1_000 + TOLERANCE_MS)));
        assert!(Expiry::In(1_000).is_before(Expiry::In(1_001 + TOLERANCE_MS)));
        assert!(Expiry::In(i64::MAX).is_before(Expiry::Never));
        assert!(!Expiry::Never.is_before(Expiry::Never));
        assert!(!Expiry::In(1).is_before(Expiry::Gone));
    }
}
