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
use crate::near::Stamp;
use crate::near::boot_clock;
use crate::resp::replies::Replies;
use crate::seal::{Form, Keyring};

/// How long a value may be used without asking Redis again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What makes it invalid.
    pub stamp: Stamp,
    /// When the key expires, in microseconds of the boot clock; in the far future if it does not.
    pub expires_at: u64,
    /// The bytes that the value takes outside of the heap of a process.
    pub off_heap: usize,
}

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
    is_near: bool,
    /// What the round was sent with, if its value may be used again.
    sent: Option<Sent>,
}

/// A round of a read whose value may be used again.
#[derive(Clone, Copy, Debug)]
struct Sent {
    stamp: Stamp,
    /// In microseconds of the boot clock.
    at: u64,
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
            is_near: false,
            sent: None,
            key,
        }
    }

    /// The same, with a value that may be used again where it is tracked. That of a legacy key never is.
    #[must_use]
    pub const fn near(mut self) -> Self {
        self.is_near = true;
        self
    }

    pub(super) const fn is_near(&self) -> bool {
        self.is_near
    }

    pub(super) fn byte_len(&self) -> usize {
        self.redis_keys.iter().map(|key| key.as_bytes().len()).sum()
    }

    pub(super) fn write(&mut self, context: &mut WriteContext<'_>) {
        self.now_ms = context.now_ms;
        self.sent = self.stamp(context);
        for redis_key in &self.redis_keys {
            context.commands.push("GET", redis_key.as_bytes(), |_| ());
            if self.sent.is_some() {
                context.commands.push("PTTL", redis_key.as_bytes(), |_| ());
            }
        }
    }

    fn stamp(&self, context: &WriteContext<'_>) -> Option<Sent> {
        let validity = context
            .validity
            .filter(|_| self.is_near && self.later.is_none())?;
        let stamp = validity.stamp(validity.shard(self.redis_keys.first()?.as_bytes()))?;
        let at = boot_clock::now_us();
        Some(Sent { stamp, at })
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        let mut found = None;
        for _ in &self.redis_keys {
            found = replies.next_bytes()?.or(found);
        }
        // Without the time to live, the value is not used again.
        let ttl_ms = self.sent.and_then(|_| replies.next_integer().ok());
        if let Some(stored) = found {
            return Ok(Step::Done(self.outcome(stored, ttl_ms)));
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

    fn outcome(&self, stored: Vec<u8>, ttl_ms: Option<i64>) -> Outcome {
        let form = self.keyring.form_of(&stored);
        let value = match self.keyring.open(|| self.canonical(), self.now_ms, stored) {
            Ok(value) => value,
            Err(reason) => return Outcome::Unopened(reason),
        };
        if let Err(error) = etf::check(&value) {
            return Outcome::Invalid(error);
        }
        match self.lease(&value, ttl_ms, form) {
            Some(lease) => Outcome::NearValue(value, lease),
            None => Outcome::Value(value),
        }
    }

    /// Until when a value may be used, given the reply to `PTTL`: the key may be gone already, and a sealed
    /// value may open for a shorter time than the key lives.
    fn lease(&self, value: &[u8], ttl_ms: Option<i64>, form: Form) -> Option<Lease> {
        let sent = self.sent?;
        let lives_for = match ttl_ms? {
            -1 => i64::MAX,
            ttl_ms => ttl_ms,
        };
        let opens_for = match form {
            Form::Plain => i64::MAX,
            Form::Sealed { expires_ms, .. } => expires_ms.saturating_sub(self.now_ms),
        };
        let left_ms = u64::try_from(lives_for.min(opens_for)).ok()?;
        Some(Lease {
            stamp: sent.stamp,
            expires_at: sent.at.saturating_add(left_ms.saturating_mul(1_000)),
            off_heap: etf::off_heap_bytes(value),
        })
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
    use crate::near::{EpochEnd, Validity};
    use crate::resp::commands::Commands;
    use crate::resp::testing::lines;
    use crate::seal::Unopened;
    use redis::Value;
    use std::time::Duration;

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

    /// A read whose value may be used again, and what stamps it.
    struct Near {
        get: Get,
        validity: Validity,
    }

    impl Near {
        fn new(parts: &[&[u8]]) -> Self {
            let validity = Validity::new(Duration::from_secs(1));
            validity.begin();
            let get = Get::new(key(parts), &no_index()).near();
            Self { get, validity }
        }

        fn write(&mut self) -> Vec<String> {
            let mut commands = Commands::new();
            self.get.write(&mut WriteContext {
                commands: &mut commands,
                now_ms: 0,
                round_trip: Duration::ZERO,
                validity: Some(&self.validity),
            });
            lines(commands.as_bytes())
        }

        fn read(&mut self, replies: Vec<Value>) -> Step {
            self.get.read(Replies::new(replies)).unwrap()
        }

        /// How long the value may be used that was read with this reply to `PTTL`.
        fn lease(&mut self, ttl: Value) -> Option<Lease> {
            match self.read(vec![bulk(VALUE), ttl]) {
                Step::Done(Outcome::NearValue(value, lease)) if value == VALUE => Some(lease),
                Step::Done(Outcome::Value(value)) if value == VALUE => None,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_near_value_has_the_stamp_of_when_it_was_sent() {
        let mut near = Near::new(&[ATOM_A]);
        near.write();
        let shard = near.validity.shard(key(&[ATOM_A]).redis_key().as_bytes());
        near.validity.invalidate(shard);
        let before = boot_clock::now_us();
        let commands = [format!("GET {N}:{A}"), format!("PTTL {N}:{A}")];
        assert_eq!(near.write(), commands);
        let sent = before..=boot_clock::now_us();
        let stamp = near.validity.stamp(shard).unwrap();
        near.validity.invalidate(shard);
        let lease = near.lease(Value::Int(5_000)).unwrap();
        assert_eq!((lease.stamp, lease.stamp.version), (stamp, 1));
        assert!(sent.contains(&(lease.expires_at - 5_000_000)));
    }

    #[test]
    fn a_near_value_ends_with_its_key() {
        for (ttl, is_near) in [
            (Value::Int(-1), true),
            (Value::Int(-2), false),
            (error("NOPERM no permission"), false),
        ] {
            let mut near = Near::new(&[INT_1]);
            near.write();
            let lease = near.lease(ttl);
            assert_eq!(lease.is_some(), is_near);
            assert!(lease.is_none_or(|lease| lease.expires_at > 1 << 62));
        }
    }

    #[test]
    fn a_near_value_ends_with_its_seal() {
        let mut near = Near::new(&[INT_1]);
        near.get = Get::new(key(&[INT_1]), &sealed()).near();
        near.write();
        let stored = sealed_value(&[INT_1], 7_000);
        let before = boot_clock::now_us();
        // The value was restored with a longer time to live.
        let Step::Done(Outcome::NearValue(value, lease)) =
            near.read(vec![bulk(stored), Value::Int(1_000_000)])
        else {
            panic!("the value is not near");
        };
        assert_eq!(value, VALUE);
        assert!((before - 1_000_000..=before + 7_000_000).contains(&lease.expires_at));
    }

    #[test]
    fn a_value_is_not_near_unless_a_connection_tracks() {
        let mut near = Near::new(&[INT_1]);
        near.validity.end(EpochEnd::ConnectionLost);
        assert_eq!(near.write(), [format!("GET {N}:{ONE}")]);
        let outcome = near.read(vec![bulk(VALUE)]);
        assert!(matches!(outcome, Step::Done(Outcome::Value(_))));
    }

    #[test]
    fn nothing_but_the_value_of_a_canonical_key_is_near() {
        let mut near = Near::new(&[ATOM_A]);
        near.write();
        let outcome = near.read(vec![bulk(FUNCTION), Value::Int(1)]);
        assert!(matches!(outcome, Step::Done(Outcome::Invalid(_))));

        near.write();
        let outcome = near.read(vec![Value::Nil, Value::Int(-2)]);
        assert!(matches!(outcome, Step::Again));
        assert_eq!(
            near.write().len(),
            2,
            "the legacy key, and again the canonical one"
        );
        let outcome = near.read(vec![bulk(VALUE), Value::Nil]);
        assert!(matches!(outcome, Step::Done(Outcome::Value(_))));
    }
}
