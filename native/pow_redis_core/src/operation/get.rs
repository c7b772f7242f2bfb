//! Reading the value of a key.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::etf;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::resp::replies::Replies;
use crate::seal::Keyring;

/// Reads the value of a key. If the canonical key does not exist, also tries the legacy one, and then the
/// canonical one again: a reindex may rename the legacy one at any time. The nodes of a cluster do not read
/// theirs in order, so the last takes a round of its own there.
#[derive(Debug)]
pub struct Get {
    key: Key,
    is_cluster: bool,
    keyring: Arc<Keyring>,
    /// The time at which the round was written.
    now_ms: i64,
    /// What the next round reads. The last one that exists counts.
    redis_keys: Vec<RedisKey>,
    /// The rounds after it; `None` until the canonical key was not found.
    later: Option<VecDeque<Vec<RedisKey>>>,
}

impl Get {
    /// Reads `key`.
    pub fn new(key: Key, layout: &Layout) -> Self {
        Self {
            is_cluster: layout.is_cluster,
            keyring: Arc::clone(&layout.keyring),
            now_ms: 0,
            redis_keys: vec![key.redis_key()],
            later: None,
            key,
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        self.redis_keys.iter().map(|key| key.as_bytes().len()).sum()
    }

    pub(super) fn write(&mut self, context: &mut WriteContext<'_>) {
        self.now_ms = context.now_ms;
        for redis_key in &self.redis_keys {
            context.commands.push("GET", redis_key.as_bytes(), |_| ());
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        let mut found = None;
        for _ in &self.redis_keys {
            found = replies.next_bytes()?.or(found);
        }
        if let Some(stored) = found {
            return Ok(Step::Done(self.outcome(stored)));
        }
        let later = self
            .later
            .get_or_insert_with(|| later_rounds(&self.key, self.is_cluster));
        Ok(match later.pop_front() {
            Some(redis_keys) => {
                self.redis_keys = redis_keys;
                Step::Again
            }
            None => Step::Done(Outcome::NotFound),
        })
    }

    fn outcome(&self, stored: Vec<u8>) -> Outcome {
        match self.keyring.open(|| self.canonical(), self.now_ms, stored) {
            Ok(value) => match etf::check(&value) {
                Ok(()) => Outcome::Value(value),
                Err(error) => Outcome::Invalid(error),
            },
            Err(reason) => Outcome::Unopened(reason),
        }
    }

    /// The canonical Redis key, for which a value under a legacy key is sealed too.
    fn canonical(&self) -> Cow<'_, [u8]> {
        match (&self.later, self.redis_keys.as_slice()) {
            // The first round.
            (None, [canonical]) => Cow::Borrowed(canonical.as_bytes()),
            _ => Cow::Owned(self.key.redis_key().into_bytes()),
        }
    }
}

/// What to read if the canonical key does not exist.
fn later_rounds(key: &Key, is_cluster: bool) -> VecDeque<Vec<RedisKey>> {
    match key.legacy_redis_key() {
        None => VecDeque::new(),
        Some(legacy) if is_cluster => [vec![legacy], vec![key.redis_key()]].into(),
        Some(legacy) => [vec![legacy, key.redis_key()]].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use crate::keyspace::index::Index;
    use crate::seal::Unopened;
    use redis::Value;

    fn get(parts: &[&[u8]]) -> Driver {
        Driver::new(Operation::Get(Get::new(key(parts), &no_index())))
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
    fn reads_the_nodes_of_a_cluster_one_after_the_other() {
        for (round, redis_key) in [A, LEGACY_A, A].into_iter().enumerate() {
            let layout = Layout::cluster(Index::EveryPrefix);
            let mut driver = Driver::new(Operation::Get(Get::new(key(&[ATOM_A]), &layout)));
            for _ in 0..round {
                driver.again(vec![Value::Nil]);
            }
            assert_eq!(driver.write(), [format!("GET {N}:{redis_key}")]);
            let outcome = driver.done(vec![bulk(VALUE)]);
            assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));
        }
        let mut driver = get(&[ATOM_A]);
        driver.again(vec![Value::Nil]);
        assert!(matches!(
            driver.done(vec![Value::Nil, Value::Nil]),
            Outcome::NotFound
        ));
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
    fn opens_a_sealed_value_under_either_key() {
        let sealed_get = || Driver::new(Operation::Get(Get::new(key(&[ATOM_A, INT_1]), &sealed())));
        let stored = sealed_value(&[ATOM_A, INT_1], NOW_MS);
        let mut driver = sealed_get();
        driver.write();
        let outcome = driver.done(vec![bulk(&stored)]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));
        let mut driver = sealed_get();
        driver.again(vec![Value::Nil]);
        driver.write();
        let outcome = driver.done(vec![bulk(&stored), Value::Nil]);
        assert!(matches!(outcome, Outcome::Value(value) if value == VALUE));
    }

    #[test]
    fn reports_values_that_do_not_open() {
        for (stored, layout, now_ms, expected) in [
            (
                sealed_value(&[INT_2], NOW_MS),
                sealed(),
                NOW_MS,
                Unopened::Tampered,
            ),
            (
                sealed_value(&[INT_1], NOW_MS),
                no_index(),
                NOW_MS,
                Unopened::UnknownKey,
            ),
            (
                sealed_value(&[INT_1], NOW_MS),
                sealed(),
                10 * NOW_MS,
                Unopened::Expired,
            ),
        ] {
            let mut driver = Driver::new(Operation::Get(Get::new(key(&[INT_1]), &layout)));
            driver.now_ms = now_ms;
            driver.write();
            let outcome = driver.done(vec![bulk(stored)]);
            assert!(matches!(outcome, Outcome::Unopened(reason) if reason == expected));
        }
    }

    #[test]
    fn checks_sealed_values_too() {
        let redis_key = key(&[INT_1]).redis_key();
        let keyring = &sealed().keyring;
        let stored = keyring.seal(redis_key.as_bytes(), NOW_MS, FUNCTION);
        let mut driver = Driver::new(Operation::Get(Get::new(key(&[INT_1]), &sealed())));
        let outcome = driver.done(vec![bulk(stored)]);
        assert!(matches!(outcome, Outcome::Invalid(_)));
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
