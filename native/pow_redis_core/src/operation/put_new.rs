//! Writing a record unless its key exists.

use std::sync::Arc;

use super::{Outcome, Step, WriteContext};
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::keyspace::index::{IndexUpdates, Scores};
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;
use crate::seal::Keyring;

/// Writes a record unless its key exists: first its index entries, as `Put` does. If the key exists, they
/// are in the index already, and may then be listed for longer than the key lives.
///
/// A key that exists with the very same value counts as written: after a lost connection, the command is
/// sent again, and may find its own value. Callers that compete for a key need different values. Sealed
/// values are compared after opening: the same value is sealed to other bytes each time.
#[derive(Debug)]
pub struct PutNew {
    redis_key: RedisKey,
    value: Vec<u8>,
    index_updates: IndexUpdates,
    ttl: Ttl,
    keyring: Arc<Keyring>,
    /// The time at which the command was written.
    now_ms: i64,
    byte_len: usize,
}

impl PutNew {
    /// Writes `value`, an external term. Fails if it is invalid.
    pub fn new(key: &Key, value: Vec<u8>, ttl: Ttl, layout: &Layout) -> Result<Self, Error> {
        etf::check(&value).map_err(ErrorKind::Value)?;
        let redis_key = key.redis_key();
        let mut byte_len = redis_key.as_bytes().len() + value.len();
        let mut index_updates = IndexUpdates::default();
        for entry in layout.index.entries(key, &redis_key) {
            byte_len += entry.len();
            index_updates.push(entry);
        }
        Ok(Self {
            redis_key,
            value,
            index_updates,
            ttl,
            keyring: Arc::clone(&layout.keyring),
            now_ms: 0,
            byte_len,
        })
    }

    pub(super) const fn byte_len(&self) -> usize {
        self.byte_len
    }

    pub(super) fn write(&mut self, context: &mut WriteContext<'_>) {
        self.now_ms = context.now_ms;
        let redis_key = self.redis_key.as_bytes();
        let expires_ms = self.ttl.expires_ms(context.now_ms);
        let stored = self.keyring.seal(redis_key, expires_ms, &self.value);
        self.index_updates
            .write(self.ttl, context.now_ms, Scores::Raise, context.commands);
        context.commands.push("SET", redis_key, |command| {
            command.arg(&*stored).arg("NX").arg("GET");
            if let Ttl::Millis(ms) = self.ttl {
                command.arg("PX").arg(ms);
            }
        });
    }

    pub(super) fn read(&self, mut replies: Replies) -> Result<Step, Error> {
        for _ in 0..self.index_updates.commands() {
            replies.next_value()?;
        }
        let existing = replies.next_bytes()?;
        let is_written = existing.is_none_or(|stored| self.is_own(stored));
        Ok(Step::Done(Outcome::Written(is_written)))
    }

    fn is_own(&self, stored: Vec<u8>) -> bool {
        let redis_key = || self.redis_key.as_bytes();
        let opened = self.keyring.open(redis_key, self.now_ms, stored);
        opened.is_ok_and(|value| value == self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    const MINUTE: Ttl = Ttl::Millis(60_000);

    fn put_new(ttl: Ttl, layout: &Layout) -> Driver {
        let put_new = PutNew::new(&key(&[ATOM_A]), VALUE.to_vec(), ttl, layout).unwrap();
        Driver::new(Operation::PutNew(put_new))
    }

    fn is_written(reply: Value) -> bool {
        match put_new(MINUTE, &no_index()).done(vec![reply]) {
            Outcome::Written(is_written) => is_written,
            outcome => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn opens_a_sealed_value_to_compare_it() {
        let own = sealed_value(&[ATOM_A], NOW_MS);
        let moved = sealed_value(&[INT_1], NOW_MS);
        for (stored, expected) in [(own, true), (VALUE.to_vec(), true), (moved, false)] {
            let mut driver = put_new(MINUTE, &sealed());
            let command = driver.write_words().remove(0);
            assert_ne!(command[2], VALUE);
            let outcome = driver.done(vec![bulk(stored)]);
            assert!(matches!(outcome, Outcome::Written(written) if written == expected));
        }
    }

    #[test]
    fn writes_a_new_key() {
        let mut driver = put_new(MINUTE, &no_index());
        let command = [format!("SET {N}:{A} \\x83a\\x07 NX GET PX 60000")];
        assert_eq!(driver.write(), command);
        assert_eq!(driver.write(), command, "written again");
        assert!(driver.operation.is_write() && !driver.operation.is_long_write());
        assert!(is_written(Value::Nil));
    }

    #[test]
    fn its_own_value_counts_as_written() {
        assert!(is_written(bulk(VALUE)));
        assert!(!is_written(bulk([131, 97, 8])));
        assert!(!is_written(bulk("")));
    }

    #[test]
    fn writes_index_entries_before_the_value() {
        let mut driver = put_new(MINUTE, &every_prefix());
        assert_eq!(
            driver.write(),
            [
                format!("ZADD _index:{N} GT 1060000 {A}"),
                format!("PEXPIRE _index:{N} 120000 NX"),
                format!("PEXPIRE _index:{N} 120000 GT"),
                format!("ZREMRANGEBYSCORE _index:{N} -inf -85400000"),
                format!("SET {N}:{A} \\x83a\\x07 NX GET PX 60000"),
            ]
        );
        let set_len = "_index:".len() + N.len() + A.len();
        let record_len = N.len() + 1 + A.len() + VALUE.len();
        assert_eq!(driver.operation.byte_len(), set_len + record_len);
        let outcome = driver.done([okays(4), vec![Value::Nil]].concat());
        assert!(matches!(outcome, Outcome::Written(true)));
    }

    #[test]
    fn writes_a_persistent_record() {
        let command = [format!("SET {N}:{A} \\x83a\\x07 NX GET")];
        assert_eq!(put_new(Ttl::Persistent, &no_index()).write(), command);
    }

    #[test]
    fn fails_on_any_error_reply() {
        for position in 0..5 {
            let mut replies = [okays(4), vec![Value::Nil]].concat();
            replies[position] = error("OOM command not allowed");
            let mut driver = put_new(MINUTE, &every_prefix());
            assert_eq!(driver.fails_with(replies), "redis returned OOM");
        }
        let mut driver = put_new(MINUTE, &no_index());
        assert_eq!(driver.fails_with(okays(1)), "unexpected reply");
    }

    #[test]
    fn rejects_invalid_values() {
        let error = PutNew::new(&key(&[INT_1]), FUNCTION.to_vec(), MINUTE, &no_index());
        assert!(matches!(error.unwrap_err().kind(), ErrorKind::Value(_)));
    }
}
