//! Deleting one key.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::resp::replies::Replies;

/// Deletes one key in both forms: first its value, then its place in the index, so that a crash in
/// between leaves at worst a member without a value. The old form goes first: should a reindex
/// rename it to the canonical form at that moment, one of the two deletions still meets it.
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

    fn delete(parts: &[&[u8]], layout: Layout) -> Script {
        Script::new(Operation::Delete(Delete::new(&key(parts), layout)))
    }

    #[test]
    fn the_value_goes_before_its_place_in_the_index() {
        let mut script = delete(&[INT_1, INT_2], Layout::Indexed);
        let commands = [
            format!("DEL {N}:{ONE}:{TWO}"),
            format!("ZREM _index:{N} {ONE}:{TWO}"),
            format!("ZREM _index:{N}:{ONE} {TWO}"),
        ];
        assert_eq!(script.write(), commands);
        assert_eq!(script.write(), commands, "written again");
        let nothing_there = vec![Value::Int(0); 3];
        assert!(matches!(script.done(nothing_there), Outcome::Done));
    }

    /// A reindex may rename the key in between: in this order one of the two commands meets it.
    #[test]
    fn the_old_form_goes_first() {
        let mut script = delete(&[ATOM_A, INT_1], Layout::Indexed);
        assert_eq!(
            script.write(),
            [
                format!("DEL {N}:{OLD_A}:{ONE}"),
                format!("DEL {N}:{A}:{ONE}"),
                format!("ZREM _index:{N} {OLD_A}:{ONE}"),
                format!("ZREM _index:{N}:{OLD_A} {ONE}"),
                format!("ZREM _index:{N} {A}:{ONE}"),
                format!("ZREM _index:{N}:{A} {ONE}"),
            ]
        );
        assert!(matches!(script.done(okays(6)), Outcome::Done));
    }

    #[test]
    fn the_plain_layout_has_no_index() {
        assert_eq!(
            delete(&[ATOM_A], Layout::Plain).write(),
            [format!("DEL {N}:{OLD_A}"), format!("DEL {N}:{A}")]
        );
    }

    #[test]
    fn one_error_reply_fails_the_delete() {
        for position in 0..3 {
            let mut replies = vec![Value::Int(1); 3];
            replies[position] = error("NOPERM no permission");
            let mut script = delete(&[INT_1, INT_2], Layout::Indexed);
            assert_eq!(script.refused(replies), "redis answered NOPERM");
        }
    }
}
