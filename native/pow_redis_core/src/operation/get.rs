//! Reading the value of a key.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::etf;
use crate::keyspace::key::Key;
use crate::keyspace::redis_key::RedisKey;
use crate::resp::replies::Replies;

/// Reads the value of a key. If the canonical key does not exist, also tries the legacy one.
#[derive(Debug)]
pub struct Get {
    key: Key,
    redis_key: RedisKey,
    /// Set once the canonical key was not found.
    legacy_redis_key: Option<RedisKey>,
}

impl Get {
    /// Reads `key`.
    pub fn new(key: Key) -> Self {
        Self {
            redis_key: key.redis_key(),
            key,
            legacy_redis_key: None,
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        self.redis_key.as_bytes().len()
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        // The canonical key is read again, and last: a reindex may rename the legacy one at any time.
        for redis_key in self.legacy_redis_key.iter().chain([&self.redis_key]) {
            context.commands.push("GET", redis_key.as_bytes(), |_| ());
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        let legacy = match &self.legacy_redis_key {
            Some(_) => replies.next_bytes()?,
            None => None,
        };
        if let Some(value) = replies.next_bytes()?.or(legacy) {
            return Ok(Step::Done(match etf::check(&value) {
                Ok(()) => Outcome::Value(value),
                Err(error) => Outcome::Invalid(error),
            }));
        }
        if self.legacy_redis_key.is_none() {
            self.legacy_redis_key = self.key.legacy_redis_key();
            if self.legacy_redis_key.is_some() {
                return Ok(Step::Again);
            }
        }
        Ok(Step::Done(Outcome::NotFound))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    fn get(parts: &[&[u8]]) -> Driver {
        Driver::new(Operation::Get(Get::new(key(parts))))
    }

    #[test]
    fn a_hit_takes_one_round() {
        let mut driver = get(&[ATOM_A, INT_1]);
        assert_eq!(driver.write(), [format!("GET {N}:{A}:{ONE}")]);
        let outcome = driver.done(vec![bulk(VALUE)]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));
    }

    #[test]
    fn a_miss_of_a_key_without_atoms_takes_one_round() {
        let mut driver = get(&[INT_1]);
        assert_eq!(driver.write(), [format!("GET {N}:{ONE}")]);
        assert!(matches!(driver.done(vec![Value::Nil]), Outcome::NotFound));
    }

    #[test]
    fn a_miss_of_a_key_with_atoms_tries_the_legacy_key() {
        let mut driver = get(&[ATOM_A, INT_1]);
        driver.write();
        driver.again(vec![Value::Nil]);
        let both = [
            format!("GET {N}:{LEGACY_A}:{ONE}"),
            format!("GET {N}:{A}:{ONE}"),
        ];
        assert_eq!(driver.write(), both);
        let outcome = driver.done(vec![bulk(VALUE), Value::Nil]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));

        let mut driver = get(&[ATOM_A]);
        driver.again(vec![Value::Nil]);
        let outcome = driver.done(vec![Value::Nil, Value::Nil]);
        assert!(matches!(outcome, Outcome::NotFound));
    }

    #[test]
    fn finds_a_key_that_is_renamed_between_the_rounds() {
        let mut driver = get(&[ATOM_A]);
        driver.again(vec![Value::Nil]);
        let outcome = driver.done(vec![Value::Nil, bulk(VALUE)]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));
    }

    #[test]
    fn reports_invalid_values() {
        for value in [FUNCTION, b"", b"text", &[131, 97, 7, 0]] {
            let outcome = get(&[ATOM_A]).done(vec![bulk(value)]);
            assert!(matches!(outcome, Outcome::Invalid(_)), "{value:?}");
        }
        let mut driver = get(&[ATOM_A]);
        driver.again(vec![Value::Nil]);
        let outcome = driver.done(vec![bulk(FUNCTION), Value::Nil]);
        assert!(matches!(outcome, Outcome::Invalid(error) if error.offset() == 1));
    }

    #[test]
    fn fails_on_other_replies() {
        for (reply, message) in [
            (error("OOM out of memory"), "redis returned OOM"),
            (error("WRONGTYPE not a string"), "redis returned WRONGTYPE"),
            (Value::Int(1), "unexpected reply"),
        ] {
            assert_eq!(get(&[INT_1]).fails_with(vec![reply]), message);
        }
        assert_eq!(get(&[INT_1]).fails_with(vec![]), "unexpected reply");
    }
}
