//! The index: sorted sets that list the keys with a common prefix.
//!
//! The name of a set is `_index:` and the first parts of the Redis keys that it lists; a member is the
//! remaining parts of a key, and its score the time at which the record expires, in Unix milliseconds. The
//! current edition of Pow's guide has the same sets, for each prefix of each key.

use std::collections::HashMap;

use super::index_pattern::IndexPattern;
use super::key::Key;
use super::pattern::Pattern;
use super::redis_key::{RedisKey, index_set};
use super::ttl::{PEXPIRE_COMMANDS, Ttl};
use crate::resp::commands::Commands;

/// Which index sets there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Index {
    /// One for each prefix of each key.
    EveryPrefix,
    /// Those of patterns. There may be none.
    Patterns(Vec<IndexPattern>),
}

/// The entry of a Redis key in an index set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry<'k> {
    pub(crate) set: Vec<u8>,
    pub(crate) member: &'k [u8],
}

impl Index {
    /// Whether there are no sets.
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::EveryPrefix => false,
            Self::Patterns(patterns) => patterns.is_empty(),
        }
    }

    /// The entries of a key, whose canonical or legacy Redis key is `redis_key`.
    pub(crate) fn entries<'k>(
        &self,
        key: &Key,
        redis_key: &'k RedisKey,
    ) -> impl Iterator<Item = IndexEntry<'k>> {
        let prefix_lens = match self {
            Self::EveryPrefix => None,
            Self::Patterns(patterns) => {
                let matching = patterns.iter().filter(|pattern| pattern.matches(key));
                Some(matching.map(IndexPattern::prefix_len).collect::<Vec<_>>())
            }
        };
        let is_entered = move |len| prefix_lens.as_ref().is_none_or(|lens| lens.contains(&len));
        redis_key
            .splits()
            .zip(1..)
            .filter(move |&(_, len)| is_entered(len))
            .map(|((prefix, member), _)| IndexEntry {
                set: index_set(prefix),
                member,
            })
    }

    /// The parts that name the smallest set that lists all keys which match. Returns `None` if none does.
    pub(crate) fn prefix_for(&self, pattern: &Pattern) -> Option<Key> {
        let prefix = pattern.prefix();
        match self {
            Self::EveryPrefix => Some(prefix.clone()),
            Self::Patterns(patterns) => {
                let covering = patterns.iter().filter(|own| own.covers(pattern));
                let len = covering.map(IndexPattern::prefix_len).max()?;
                Some(prefix.leading(len))
            }
        }
    }

    /// Whether a set, given by the parts that name it, is one of the index.
    pub(crate) fn keeps(&self, prefix: &Key) -> bool {
        match self {
            Self::EveryPrefix => true,
            Self::Patterns(patterns) => patterns.iter().any(|pattern| pattern.names(prefix)),
        }
    }
}

impl IndexEntry<'_> {
    /// The bytes of the set's name and of the member.
    pub(crate) const fn len(&self) -> usize {
        self.set.len() + self.member.len()
    }
}

/// The members to add to index sets.
#[derive(Debug, Default)]
pub(crate) struct IndexUpdates {
    sets: Vec<IndexUpdate>,
    /// The position of each set, by its name.
    positions: HashMap<Vec<u8>, usize>,
}

/// What happens to the score of a member that an index set has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scores {
    /// It is replaced.
    Replace,
    /// It is replaced by a later time only.
    Raise,
}

/// The members to add to an index set.
#[derive(Debug)]
struct IndexUpdate {
    set: Vec<u8>,
    members: Vec<Vec<u8>>,
}

impl IndexUpdates {
    /// The number of commands that [`IndexUpdates::write`] appends.
    pub(crate) const fn commands(&self) -> usize {
        self.sets.len() * (2 + PEXPIRE_COMMANDS)
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: IndexEntry<'_>) {
        let member = entry.member.to_vec();
        let last = self.sets.len();
        let position = *self.positions.entry(entry.set.clone()).or_insert(last);
        match self.sets.get_mut(position) {
            Some(update) => update.members.push(member),
            None => self.sets.push(IndexUpdate {
                set: entry.set,
                members: vec![member],
            }),
        }
    }

    /// Appends the commands that add the members, let the sets live longer than these, and remove members
    /// which expired long ago.
    pub(crate) fn write(&self, ttl: Ttl, now_ms: i64, scores: Scores, commands: &mut Commands) {
        for update in &self.sets {
            commands.push("ZADD", &update.set, |command| {
                if scores == Scores::Raise {
                    command.arg("GT");
                }
                for member in &update.members {
                    ttl.write_score(now_ms, command);
                    command.arg(member);
                }
            });
            ttl.write_pexpire(&update.set, commands);
            commands.push("ZREMRANGEBYSCORE", &update.set, |command| {
                let until_ms = now_ms.saturating_sub(ttl.purge_margin_ms());
                command.arg("-inf").arg(until_ms);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::resp::testing::lines;

    fn patterns(patterns: &[&[&[u8]]]) -> Index {
        Index::Patterns(patterns.iter().map(|parts| index_pattern(parts)).collect())
    }

    /// The sets that list `[1, a, 2]`.
    fn sets(index: &Index) -> Vec<String> {
        let key = key(&[INT_1, ATOM_A, INT_2]);
        let redis_key = key.redis_key();
        let entries = index.entries(&key, &redis_key);
        entries
            .map(|entry| {
                let set = String::from_utf8(entry.set).unwrap();
                format!("{set} {}", std::str::from_utf8(entry.member).unwrap())
            })
            .collect()
    }

    #[test]
    fn every_prefix_names_a_set() {
        assert_eq!(
            sets(&Index::EveryPrefix),
            [
                format!("_index:{N} {ONE}:{A}:{TWO}"),
                format!("_index:{N}:{ONE} {A}:{TWO}"),
                format!("_index:{N}:{ONE}:{A} {TWO}"),
            ]
        );
    }

    #[test]
    fn the_set_of_a_pattern_is_named_by_the_parts_before_its_wildcards() {
        let two = [format!("_index:{N}:{ONE}:{A} {TWO}")];
        assert_eq!(sets(&patterns(&[&[ANY, ATOM_A, ANY]])), two);
        let same = patterns(&[&[ANY, ATOM_A, ANY], &[INT_1, ATOM_A, ANY], &[INT_2, ANY]]);
        assert_eq!(sets(&same), two, "one set, and one of other keys");
        let shorter = patterns(&[&[INT_1, ANY, ANY], &[ANY, ANY, ANY]]);
        assert_eq!(
            sets(&shorter),
            [
                format!("_index:{N} {ONE}:{A}:{TWO}"),
                format!("_index:{N}:{ONE} {A}:{TWO}"),
            ]
        );
        assert!(sets(&patterns(&[])).is_empty());
    }

    #[test]
    fn the_smallest_set_is_read() {
        let prefix = |index: &Index, parts: &[&[u8]]| {
            let prefix = index.prefix_for(&pattern(parts))?;
            Some(String::from_utf8(prefix.redis_key().into_bytes()).unwrap())
        };
        let some = |text: String| Some(text);
        let every = Index::EveryPrefix;
        assert_eq!(prefix(&every, &[ANY, INT_1]), some(N.to_owned()));
        assert_eq!(prefix(&every, &[INT_1, ANY]), some(format!("{N}:{ONE}")));
        let index = patterns(&[&[ANY, ANY], &[INT_1, ANY]]);
        assert_eq!(prefix(&index, &[INT_1, ANY]), some(format!("{N}:{ONE}")));
        assert_eq!(prefix(&index, &[INT_2, ANY]), some(N.to_owned()));
        assert_eq!(prefix(&index, &[INT_1, ANY, ANY]), None);
        assert_eq!(prefix(&patterns(&[]), &[INT_1, ANY]), None);
    }

    #[test]
    fn keeps_the_sets_of_its_patterns() {
        let index = patterns(&[&[ANY, ATOM_A, ANY]]);
        assert!(index.keeps(&key(&[INT_1, ATOM_A])));
        assert!(!index.keeps(&key(&[INT_1])));
        assert!(Index::EveryPrefix.keeps(&key(&[INT_1])));
        assert!(!patterns(&[]).keeps(&key(&[INT_1, ATOM_A])));
        assert!(patterns(&[]).is_empty());
        assert!(!index.is_empty() && !Index::EveryPrefix.is_empty());
    }

    /// What `ttl` writes at the given time for keys of these parts.
    fn written(ttl: Ttl, now_ms: i64, keys: &[&[&[u8]]]) -> Vec<String> {
        written_with(Scores::Replace, ttl, now_ms, keys)
    }

    fn written_with(scores: Scores, ttl: Ttl, now_ms: i64, keys: &[&[&[u8]]]) -> Vec<String> {
        let mut updates = IndexUpdates::default();
        for parts in keys {
            let key = key(parts);
            let redis_key = key.redis_key();
            let entries: Vec<_> = Index::EveryPrefix.entries(&key, &redis_key).collect();
            entries.into_iter().for_each(|entry| updates.push(entry));
        }
        let mut commands = Commands::new();
        updates.write(ttl, now_ms, scores, &mut commands);
        assert_eq!(commands.len(), updates.commands());
        lines(commands.as_bytes())
    }

    const DAY: i64 = 86_400_000;

    #[test]
    fn adds_the_members_of_a_set_with_one_command() {
        assert_eq!(
            written(Ttl::Millis(1_000), DAY, &[&[INT_1], &[ATOM_A, INT_2]]),
            [
                format!("ZADD _index:{N} 86401000 {ONE} 86401000 {A}:{TWO}"),
                format!("PEXPIRE _index:{N} 61000 NX"),
                format!("PEXPIRE _index:{N} 61000 GT"),
                format!("ZREMRANGEBYSCORE _index:{N} -inf 0"),
                format!("ZADD _index:{N}:{A} 86401000 {TWO}"),
                format!("PEXPIRE _index:{N}:{A} 61000 NX"),
                format!("PEXPIRE _index:{N}:{A} 61000 GT"),
                format!("ZREMRANGEBYSCORE _index:{N}:{A} -inf 0"),
            ]
        );
    }

    #[test]
    fn persistent_records_have_an_infinite_score() {
        let commands = written(Ttl::Persistent, DAY, &[&[INT_1]]);
        assert_eq!(commands[0], format!("ZADD _index:{N} +inf {ONE}"));
    }

    #[test]
    fn keeps_later_scores() {
        let commands = written_with(Scores::Raise, Ttl::Millis(1), DAY, &[&[INT_1]]);
        assert_eq!(commands[0], format!("ZADD _index:{N} GT 86400001 {ONE}"));
    }

    #[test]
    fn purges_members_that_expired_more_than_a_day_or_a_ttl_ago() {
        for (ttl, until) in [
            (Ttl::Millis(1), 9 * DAY),
            (Ttl::Millis(DAY), 9 * DAY),
            (Ttl::Millis(DAY + 1), 9 * DAY - 1),
            (Ttl::Millis(30 * DAY), -20 * DAY),
        ] {
            let commands = written(ttl, 10 * DAY, &[&[INT_1]]);
            let purge = format!("ZREMRANGEBYSCORE _index:{N} -inf {until}");
            assert_eq!(commands[3], purge);
        }
    }
}
