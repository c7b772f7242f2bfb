//! Deleting a key.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::resp::replies::Replies;

/// Deletes a key, canonical and legacy: first the values, then the index entries, so that a crash in
/// between leaves at worst entries without a value. The legacy value is deleted first: if a reindex renames
/// it meanwhile, it is still deleted under the canonical key. The nodes of a cluster do not delete theirs in
/// order, so this takes a round of its own there.
///
/// The canonical value is never deleted by the first command of a round. Redis writes to its clients in the
/// reverse of the order in which they got something to be written. So the near caches of others are told before
/// this client gets its replies, and not only when Redis gets the processor again. A `PING` goes before a lone
/// `DEL`, with the key as its message, so that it goes to the key's node of a cluster.
#[derive(Debug)]
pub struct Delete {
    /// The legacy value, if a round of its own deletes it.
    first: Option<RedisKey>,
    redis_keys: Vec<RedisKey>,
    /// The names of index sets, and the members to remove.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Delete {
    /// Deletes `key`.
    pub fn new(key: &Key, layout: &Layout) -> Self {
        let legacy = key.legacy_redis_key();
        let mut redis_keys: Vec<_> = legacy.into_iter().chain([key.redis_key()]).collect();
        let entries = redis_keys
            .iter()
            .flat_map(|redis_key| layout.index.entries(key, redis_key))
            .map(|entry| (entry.set, entry.member.to_vec()))
            .collect();
        let is_split = layout.is_cluster && redis_keys.len() > 1;
        Self {
            first: is_split.then(|| redis_keys.remove(0)),
            redis_keys,
            entries,
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        let redis_keys = self.redis_keys.iter().map(|key| key.as_bytes().len());
        let entries = self
            .entries
            .iter()
            .map(|(set, member)| set.len() + member.len());
        redis_keys.chain(entries).sum()
    }

    pub(super) fn redis_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.first
            .iter()
            .chain(&self.redis_keys)
            .map(RedisKey::as_bytes)
    }

    pub(super) const fn is_long(&self) -> bool {
        self.first.is_some()
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        if let Some(first) = &self.first {
            context.commands.push("DEL", first.as_bytes(), |_| ());
            return;
        }
        if let Some(message) = self.message() {
            context.commands.push("PING", message, |_| ());
        }
        for redis_key in &self.redis_keys {
            context.commands.push("DEL", redis_key.as_bytes(), |_| ());
        }
        for (set, member) in &self.entries {
            context.commands.push("ZREM", set, |command| {
                command.arg(member);
            });
        }
    }

    /// The message of the `PING` that goes before a lone `DEL`.
    fn message(&self) -> Option<&[u8]> {
        match (&self.first, self.redis_keys.as_slice()) {
            (None, [redis_key]) => Some(redis_key.as_bytes()),
            _ => None,
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        if self.message().is_some() {
            // A proxy may reply by itself, in another way, and the user may lack the permission.
            match replies.next_value() {
                Err(error) if !error.is_denied() => return Err(error),
                _ => {}
            }
        }
        replies.finish()?;
        Ok(match self.first.take() {
            Some(_) => Step::Again,
            None => Step::Done(Outcome::Done),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use crate::keyspace::index::Index;
    use redis::Value;

    fn delete(parts: &[&[u8]], layout: &Layout) -> Driver {
        Driver::new(Operation::Delete(Delete::new(&key(parts), layout)))
    }

    /// The reply to a `PING`.
    fn message(parts: &[&[u8]]) -> Value {
        bulk(key(parts).redis_key().as_bytes())
    }

    #[test]
    fn deletes_the_value_before_its_index_entries() {
        let mut driver = delete(&[INT_1, INT_2], &every_prefix());
        let commands = [
            format!("PING {N}:{ONE}:{TWO}"),
            format!("DEL {N}:{ONE}:{TWO}"),
            format!("ZREM _index:{N} {ONE}:{TWO}"),
            format!("ZREM _index:{N}:{ONE} {TWO}"),
        ];
        assert_eq!(driver.write(), commands);
        assert_eq!(driver.write(), commands, "written again");
        let mut replies = vec![message(&[INT_1, INT_2])];
        replies.resize(4, Value::Int(0));
        assert!(matches!(driver.done(replies), Outcome::Done));
    }

    #[test]
    fn deletes_the_legacy_key_first() {
        let mut driver = delete(&[ATOM_A, INT_1], &every_prefix());
        assert_eq!(
            driver.write(),
            [
                format!("DEL {N}:{LEGACY_A}:{ONE}"),
                format!("DEL {N}:{A}:{ONE}"),
                format!("ZREM _index:{N} {LEGACY_A}:{ONE}"),
                format!("ZREM _index:{N}:{LEGACY_A} {ONE}"),
                format!("ZREM _index:{N} {A}:{ONE}"),
                format!("ZREM _index:{N}:{A} {ONE}"),
            ]
        );
        assert!(matches!(driver.done(okays(6)), Outcome::Done));
    }

    #[test]
    fn deletes_only_values_in_the_plain_layout() {
        assert_eq!(
            delete(&[ATOM_A], &no_index()).write(),
            [format!("DEL {N}:{LEGACY_A}"), format!("DEL {N}:{A}")]
        );
    }

    #[test]
    fn deletes_the_legacy_key_in_a_round_of_its_own_on_a_cluster() {
        let layout = Layout::cluster(Index::Patterns(vec![index_pattern(&[ATOM_A, ANY])]));
        let mut driver = delete(&[ATOM_A, INT_1], &layout);
        assert!(driver.operation.is_long_write());
        assert_eq!(driver.write(), [format!("DEL {N}:{LEGACY_A}:{ONE}")]);
        driver.again(okays(1));
        assert!(!driver.operation.is_long_write());
        assert_eq!(
            driver.write(),
            [
                format!("PING {N}:{A}:{ONE}"),
                format!("DEL {N}:{A}:{ONE}"),
                format!("ZREM _index:{N}:{LEGACY_A} {ONE}"),
                format!("ZREM _index:{N}:{A} {ONE}"),
            ]
        );
        let mut replies = vec![message(&[ATOM_A, INT_1])];
        replies.resize(4, Value::Int(1));
        assert!(matches!(driver.done(replies), Outcome::Done));
        let driver = delete(&[INT_2, INT_1], &layout);
        assert!(!driver.operation.is_long_write(), "without a legacy key");
    }

    #[test]
    fn fails_on_any_error_reply() {
        for position in 0..4 {
            let mut replies = vec![message(&[INT_1, INT_2])];
            replies.resize(4, Value::Int(1));
            replies[position] = error("LOADING Redis is loading the dataset in memory");
            let mut driver = delete(&[INT_1, INT_2], &every_prefix());
            assert_eq!(driver.fails_with(replies), "redis returned LOADING");
        }
    }

    #[test]
    fn does_not_need_the_ping() {
        let denied = error("NOPERM User app has no permissions to run the 'ping' command");
        for reply in [Value::SimpleString("PONG".to_owned()), denied] {
            let mut replies = vec![reply];
            replies.resize(4, Value::Int(1));
            let mut driver = delete(&[INT_1, INT_2], &every_prefix());
            assert!(matches!(driver.done(replies), Outcome::Done));
        }
    }
}
