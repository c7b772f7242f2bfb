//! The value of one key.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::etf;
use crate::keyspace::key::Key;
use crate::keyspace::redis_key::RedisKey;
use crate::resp::replies::Replies;

/// Reads the value of one key: in its canonical form, and where that is missing in the form that
/// Pow's guide wrote on Erlang/OTP 25 and earlier.
#[derive(Debug)]
pub struct Get {
    key: Key,
    redis_key: RedisKey,
    /// Once the canonical key was missing.
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

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        // The canonical key again, and last: the old one may be renamed at any time.
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

    fn get(parts: &[&[u8]]) -> Script {
        Script::new(Operation::Get(Get::new(key(parts))))
    }

    #[test]
    fn a_hit_takes_one_round() {
        let mut script = get(&[ATOM_A, INT_1]);
        assert_eq!(script.write(), [format!("GET {N}:{A}:{ONE}")]);
        let outcome = script.done(vec![bulk(VALUE)]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));
    }

    #[test]
    fn a_miss_of_a_key_without_atoms_is_the_end() {
        let mut script = get(&[INT_1]);
        assert_eq!(script.write(), [format!("GET {N}:{ONE}")]);
        assert!(matches!(script.done(vec![Value::Nil]), Outcome::NotFound));
    }

    #[test]
    fn a_miss_of_a_key_with_atoms_tries_the_old_form() {
        let mut script = get(&[ATOM_A, INT_1]);
        script.write();
        script.again(vec![Value::Nil]);
        let both = [
            format!("GET {N}:{OLD_A}:{ONE}"),
            format!("GET {N}:{A}:{ONE}"),
        ];
        assert_eq!(script.write(), both);
        let outcome = script.done(vec![bulk(VALUE), Value::Nil]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));

        let mut script = get(&[ATOM_A]);
        script.again(vec![Value::Nil]);
        let outcome = script.done(vec![Value::Nil, Value::Nil]);
        assert!(matches!(outcome, Outcome::NotFound));
    }

    #[test]
    fn a_key_that_is_renamed_in_between_is_found() {
        let mut script = get(&[ATOM_A]);
        script.again(vec![Value::Nil]);
        let outcome = script.done(vec![Value::Nil, bulk(VALUE)]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));
    }

    #[test]
    fn a_value_that_is_no_safe_term_is_refused() {
        for value in [FUNCTION, b"", b"text", &[131, 97, 7, 0]] {
            let outcome = get(&[ATOM_A]).done(vec![bulk(value)]);
            assert!(matches!(outcome, Outcome::Invalid(_)), "{value:?}");
        }
        let mut script = get(&[ATOM_A]);
        script.again(vec![Value::Nil]);
        let outcome = script.done(vec![bulk(FUNCTION), Value::Nil]);
        assert!(matches!(outcome, Outcome::Invalid(error) if error.offset() == 1));
    }

    #[test]
    fn other_replies_are_errors() {
        for (reply, message) in [
            (error("OOM out of memory"), "redis answered OOM"),
            (error("WRONGTYPE not a string"), "redis answered WRONGTYPE"),
            (Value::Int(1), "unexpected reply"),
        ] {
            assert_eq!(get(&[INT_1]).refused(vec![reply]), message);
        }
        assert_eq!(get(&[INT_1]).refused(vec![]), "unexpected reply");
    }
}
