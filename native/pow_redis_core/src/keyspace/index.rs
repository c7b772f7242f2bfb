//! The index: sorted sets that list the keys with a common prefix.
//!
//! A key of n parts is a member of n - 1 index sets. The name of each is `_index:` and the first i parts of
//! the Redis key (1 ≤ i < n); the member is the remaining parts, and its score the time at which the record
//! expires, in Unix milliseconds. The current edition of Pow's guide has the same index.

use std::collections::HashMap;

use super::redis_key::RedisKey;
use super::ttl::Ttl;
use crate::resp::commands::Commands;

/// The members to add to an index set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexUpdate {
    set: Vec<u8>,
    members: Vec<Vec<u8>>,
}

/// The index updates for these Redis keys, one per index set.
pub fn index_updates<'a>(redis_keys: impl IntoIterator<Item = &'a RedisKey>) -> Vec<IndexUpdate> {
    let mut updates: Vec<IndexUpdate> = Vec::new();
    let mut positions = HashMap::new();
    for redis_key in redis_keys {
        for (set, member) in redis_key.index_entries() {
            let position = *positions.entry(set.clone()).or_insert(updates.len());
            match updates.get_mut(position) {
                Some(update) => update.members.push(member.to_vec()),
                None => updates.push(IndexUpdate {
                    set,
                    members: vec![member.to_vec()],
                }),
            }
        }
    }
    updates
}

impl IndexUpdate {
    /// The name of the set.
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

/// Appends the command that removes members which expired so long ago that no value of theirs can exist.
pub(crate) fn write_purge(set: &[u8], ttl: Ttl, now_ms: i64, commands: &mut Commands) {
    commands.push("ZREMRANGEBYSCORE", set, |command| {
        command
            .arg("-inf")
            .arg(now_ms.saturating_sub(ttl.purge_margin_ms()));
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
    fn adds_the_members_of_a_set_with_one_command() {
        let redis_keys = [redis_key("n x"), redis_key("n y z")];
        let updates = index_updates(&redis_keys);
        let sets: Vec<_> = updates.iter().map(|update| update.members.len()).collect();
        assert_eq!(sets, [2, 1]);

        let mut commands = Commands::new();
        for update in &updates {
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
    fn persistent_records_have_an_infinite_score() {
        let mut commands = Commands::new();
        for update in index_updates([&redis_key("n x")]) {
            update.write(Ttl::Persistent, 500, &mut commands);
        }
        assert_eq!(lines(commands.as_bytes()), ["ZADD _index:bg +inf eA"]);
    }

    #[test]
    fn purges_members_that_expired_more_than_a_day_or_a_ttl_ago() {
        const DAY: i64 = 86_400_000;
        for (ttl, until) in [
            (Ttl::Millis(1), 9 * DAY),
            (Ttl::Millis(DAY), 9 * DAY),
            (Ttl::Millis(DAY + 1), 9 * DAY - 1),
            (Ttl::Millis(30 * DAY), -20 * DAY),
        ] {
            let mut commands = Commands::new();
            write_purge(b"s", ttl, 10 * DAY, &mut commands);
            let command = format!("ZREMRANGEBYSCORE s -inf {until}");
            assert_eq!(lines(commands.as_bytes()), [command]);
        }
    }
}
