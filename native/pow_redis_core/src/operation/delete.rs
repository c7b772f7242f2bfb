//! Deleting a key.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::resp::replies::Replies;

/// Deletes a key, canonical and legacy: first the values, then the index entries, so that a crash in
/// between leaves at worst entries without a value. The legacy value is deleted first: if a reindex renames
/// it meanwhile, it is still deleted under the canonical key.
#[derive(Debug)]
pub struct Delete {
    redis_keys: Vec<RedisKey>,
    layout: Layout,
}

impl Delete {
    /// Deletes `key`.
    pub fn new(key: &Key, layout: Layout) -> Self {
        Self {
            redis_keys: key
                .legacy_redis_key()
                .into_iter()
                .chain([key.redis_key()])
                .collect(),
            layout,
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        let lengths = self.redis_keys.iter().map(|key| key.as_bytes().len());
        lengths.sum()
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        for redis_key in &self.redis_keys {
            context.commands.push("DEL", redis_key.as_bytes(), |_| ());
        }
        if self.layout == Layout::Indexed {
            for (set, member) in self.redis_keys.iter().flat_map(RedisKey::index_entries) {
                context.commands.push("ZREM", &set, |command| {
                    command.arg(member);
                });
            }
        }
    }

    pub(super) fn read(&self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        Ok(Step::Done(Outcome::Done))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    fn delete(parts: &[&[u8]], layout: Layout) -> Driver {
        Driver::new(Operation::Delete(Delete::new(&key(parts), layout)))
    }

    #[test]
    fn deletes_the_value_before_its_index_entries() {
        let mut driver = delete(&[INT_1, INT_2], Layout::Indexed);
        let commands = [
            format!("DEL {N}:{ONE}:{TWO}"),
            format!("ZREM _index:{N} {ONE}:{TWO}"),
            format!("ZREM _index:{N}:{ONE} {TWO}"),
        ];
        assert_eq!(driver.write(), commands);
        assert_eq!(driver.write(), commands, "written again");
        let not_found = vec![Value::Int(0); 3];
        assert!(matches!(driver.done(not_found), Outcome::Done));
    }

    #[test]
    fn deletes_the_legacy_key_first() {
        let mut driver = delete(&[ATOM_A, INT_1], Layout::Indexed);
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
            delete(&[ATOM_A], Layout::Plain).write(),
            [format!("DEL {N}:{LEGACY_A}"), format!("DEL {N}:{A}")]
        );
    }

    #[test]
    fn fails_on_any_error_reply() {
        for position in 0..3 {
            let mut replies = vec![Value::Int(1); 3];
            replies[position] = error("NOPERM no permission");
            let mut driver = delete(&[INT_1, INT_2], Layout::Indexed);
            assert_eq!(driver.fails_with(replies), "redis returned NOPERM");
        }
    }
}
