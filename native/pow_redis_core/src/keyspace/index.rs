//! The index sets: which keys lie under which first parts.
//!
//! For a key of n parts, the sorted set `_index:` + redis_key of the first i parts (1 ≤ i < n) holds the
//! redis_key of the others as member, the time of expiry in Unix milliseconds as score. The layout is
//! that of the current edition of Pow's guide.

use std::collections::HashMap;

use super::redis_key::RedisKey;
use super::ttl::Ttl;
use crate::resp::commands::Commands;

/// How long after its score a member is dropped, in milliseconds: a value set after its index, or by
/// a host whose clock is behind, outlives the score a little.
pub(crate) const PURGE_MARGIN_MS: i64 = 5_000;

/// What to add to one index set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexUpdate {
    set: Vec<u8>,
    members: Vec<Vec<u8>>,
}

/// What redis_keys add to the index, everything for one set together.
pub fn index_updates<'a>(redis_keys: impl IntoIterator<Item = &'a RedisKey>) -> Vec<IndexUpdate> {
    let mut index_updates: Vec<IndexUpdate> = Vec::new();
    let mut positions = HashMap::new();
    for redis_key in redis_keys {
        for (set, member) in redis_key.index_entries() {
            let position = *positions.entry(set.clone()).or_insert(index_updates.len());
            match index_updates.get_mut(position) {
                Some(update) => update.members.push(member.to_vec()),
                None => index_updates.push(IndexUpdate {
                    set,
                    members: vec![member.to_vec()],
                }),
            }
        }
    }
    index_updates
}

impl IndexUpdate {
    /// The set that is added to.
    pub(crate) fn set(&self) -> &[u8] {
        &self.set
    }

    /// Appends the command that adds the members.
    pub fn write(&self, ttl: Ttl, now_ms: i64, commands: &mut Commands) {
        commands.push("ZADD", &self.set, |command| {
            for member in &self.members {
                ttl.write_score(now_ms, command);
                command.arg(member);
            }
        });
    }
}

/// Appends the command that drops members which expired.
pub(crate) fn write_purge(set: &[u8], now_ms: i64, commands: &mut Commands) {
    commands.push("ZREMRANGEBYSCORE", set, |command| {
        command
            .arg("-inf")
            .arg(now_ms.saturating_sub(PURGE_MARGIN_MS));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::testing::lines;

    fn redis_key(text: &str) -> RedisKey {
        RedisKey::from_parts(text.split(' ').map(str::as_bytes))
    }

    #[test]
    fn members_of_one_set_are_added_together() {
        let redis_keys = [redis_key("n x"), redis_key("n y z")];
        let index_updates = index_updates(&redis_keys);
        let sets: Vec<_> = index_updates.iter().map(|a| a.members.len()).collect();
        assert_eq!(sets, [2, 1]);

        let mut commands = Commands::new();
        for update in &index_updates {
            update.write(Ttl::Millis(1_000), 500, &mut commands);
        }
        assert_eq!(
            lines(commands.as_bytes()),
            [
                "ZADD _index:bg 1500 eA 1500 eQ:eg",
                "ZADD _index:bg:eQ 1500 eg"
            ]
        );
    }

    #[test]
    fn without_expiry() {
        let mut commands = Commands::new();
        for update in index_updates([&redis_key("n x")]) {
            update.write(Ttl::Persistent, 500, &mut commands);
        }
        assert_eq!(lines(commands.as_bytes()), ["ZADD _index:bg +inf eA"]);
    }

    #[test]
    fn drops_what_expired_a_while_ago() {
        let mut commands = Commands::new();
        write_purge(b"s", 10_000, &mut commands);
        assert_eq!(lines(commands.as_bytes()), ["ZREMRANGEBYSCORE s -inf 5000"]);
    }
}
