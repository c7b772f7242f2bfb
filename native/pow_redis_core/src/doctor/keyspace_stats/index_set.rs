//! The scan of an index set.

use super::KeyspaceStats;
use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::redis_key::{RedisKey, is_too_long};
use crate::keyspace::ttl::Ttl;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// How much earlier than a member a set may expire without being counted, in milliseconds: the two TTLs are
/// read at different times.
const TOLERANCE_MS: i64 = 1_000;

/// An index set that is being scanned.
#[derive(Debug)]
pub(super) struct ScannedIndexSet {
    pub(super) name: Vec<u8>,
    prefix: RedisKey,
    /// The cursor of the next members; `None` at the end.
    pub(super) cursor: Option<u64>,
    /// `None` if the set does not exist.
    pub(super) ttl: Option<Ttl>,
    /// The members read last, whose values have not been read yet.
    pub(super) members: Vec<Member>,
    /// Whether it expires before one of its members.
    pub(super) expires_early: bool,
}

/// A member of an index set.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) redis_key: RedisKey,
    /// Whether the member has expired according to its score.
    has_expired: bool,
}

impl ScannedIndexSet {
    /// Returns `None` for Redis keys that are not index sets of the store.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        let prefix = RedisKey::from_index_set(name)?;
        Key::from_redis_key(prefix.as_bytes())?;
        Some(Self {
            name: name.to_vec(),
            prefix,
            cursor: Some(0),
            ttl: None,
            members: Vec::new(),
            expires_early: false,
        })
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.cursor.is_none() && self.members.is_empty()
    }

    /// Reads the TTL and the next members. Returns how many of them were skipped, because their keys are
    /// longer than those of the store.
    pub(super) fn read(&mut self, replies: &mut Replies, now_ms: i64) -> Result<u64, Error> {
        self.ttl = read_pttl(replies)?;
        let page = none_if_wrong_type(replies.next_page())?;
        let (cursor, items) = page.unwrap_or_default();
        self.cursor = (cursor != 0).then_some(cursor);
        let mut items = items.into_iter();
        let mut skipped = 0;
        while let (Some(member), Some(score)) = (items.next(), items.next()) {
            let redis_key = self.prefix.join(&member);
            if is_too_long(redis_key.as_bytes()) {
                skipped += 1;
                continue;
            }
            self.members.push(Member {
                redis_key,
                has_expired: has_passed(&score, now_ms),
            });
        }
        Ok(skipped)
    }

    /// Reads the TTLs of the members' values, and counts the members.
    pub(super) fn read_members(
        &mut self,
        stats: &mut KeyspaceStats,
        replies: &mut Replies,
    ) -> Result<(), Error> {
        for member in std::mem::take(&mut self.members) {
            stats.members += 1;
            match read_pttl(replies)? {
                None if member.has_expired => stats.expired += 1,
                None => stats.stale += 1,
                Some(ttl) => {
                    self.expires_early |= self.ttl.is_some_and(|set| expires_before(set, ttl))
                }
            }
        }
        Ok(())
    }
}

/// Whether a set expires before a value, beyond the tolerance.
const fn expires_before(set: Ttl, value: Ttl) -> bool {
    match (set, value) {
        (Ttl::Millis(set), Ttl::Millis(value)) => set.saturating_add(TOLERANCE_MS) < value,
        (Ttl::Millis(_), Ttl::Persistent) => true,
        (Ttl::Persistent, _) => false,
    }
}

pub(super) fn write_pttl(redis_key: &[u8], commands: &mut Commands) {
    commands.push("PTTL", redis_key, |_| ());
}

/// Returns `None` if the Redis key does not exist.
pub(super) fn read_pttl(replies: &mut Replies) -> Result<Option<Ttl>, Error> {
    replies.next_integer().map(Ttl::from_pttl)
}

/// Whether a score, which is a time in Unix milliseconds or `inf`, has passed.
fn has_passed(score: &[u8], now_ms: i64) -> bool {
    let time = std::str::from_utf8(score).ok().and_then(|s| s.parse().ok());
    time.is_some_and(|time: i64| time <= now_ms)
}

/// Returns `None` if a Redis key has another type: it is not of the store, despite its name.
pub(super) fn none_if_wrong_type<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_wrong_type() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_may_expire_shortly_before_a_value() {
        let set = Ttl::Millis(1_000);
        assert!(!expires_before(set, Ttl::Millis(1_000 + TOLERANCE_MS)));
        assert!(expires_before(set, Ttl::Millis(1_001 + TOLERANCE_MS)));
        assert!(expires_before(Ttl::Millis(i64::MAX), Ttl::Persistent));
        assert!(!expires_before(Ttl::Persistent, Ttl::Persistent));
        assert!(!expires_before(Ttl::Persistent, set));
    }
}
