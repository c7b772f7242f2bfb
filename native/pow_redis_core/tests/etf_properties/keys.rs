//! Properties of keys and Redis keys.

use pow_redis_core::etf::{self, AtomEncoding};
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::redis_key::{RedisKey, decode_parts};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;
use crate::encoding::{canonical, canonical_external, choices, external};
use crate::term::{Term, term};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn all_encodings_of_a_key_are_equal(parts in vec(term(), 1..5), mut choices in choices()) {
        let list = Term::list(parts.clone());
        let key = Key::from_external(&external(&list, &mut choices)).unwrap();
        prop_assert_eq!(&key, &Key::from_external(&canonical_external(&list)).unwrap());
        let canonical_parts: Vec<_> = parts.iter().map(canonical_external).collect();
        prop_assert_eq!(decode_parts(key.redis_key().as_bytes()), Some(canonical_parts));
        let after_namespace = Term::list(parts[1..].to_vec());
        prop_assert_eq!(key.parts_term(), canonical(&after_namespace));
    }

    #[test]
    fn a_redis_key_decodes_to_its_key(parts in vec(term(), 1..5), mut choices in choices()) {
        let key = Key::from_external(&canonical_external(&Term::list(parts.clone()))).unwrap();
        prop_assert_eq!(Key::from_redis_key(key.redis_key().as_bytes()), Some(key.clone()));
        // In the encoding of another VM.
        let other: Vec<_> = parts.iter().map(|part| external(part, &mut choices)).collect();
        let other = RedisKey::from_parts(other.iter().map(Vec::as_slice));
        prop_assert_eq!(Key::from_redis_key(other.as_bytes()), Some(key));
    }

    #[test]
    fn a_legacy_redis_key_decodes_to_its_key(parts in vec(term(), 1..5)) {
        let key = Key::from_external(&canonical_external(&Term::list(parts.clone()))).unwrap();
        let latin1: Vec<_> = parts
            .iter()
            .map(|part| etf::canonicalize(&canonical_external(part), AtomEncoding::Latin1).unwrap())
            .collect();
        let latin1 = RedisKey::from_parts(latin1.iter().map(Vec::as_slice));
        match key.legacy_redis_key() {
            Some(legacy) => {
                prop_assert_eq!(&legacy, &latin1);
                prop_assert_ne!(&legacy, &key.redis_key());
                prop_assert_eq!(Key::from_redis_key(legacy.as_bytes()), Some(key));
            }
            None => prop_assert_eq!(latin1, key.redis_key()),
        }
    }

    #[test]
    fn splits_join_to_the_redis_key(parts in vec(term(), 1..5)) {
        let externals: Vec<_> = parts.iter().map(canonical_external).collect();
        let slices: Vec<_> = externals.iter().map(Vec::as_slice).collect();
        let redis_key = RedisKey::from_parts(slices.iter().copied());
        let splits: Vec<_> = redis_key.splits().collect();
        prop_assert_eq!(splits.len(), parts.len() - 1);
        for (position, (before, member)) in splits.into_iter().enumerate() {
            let prefix = RedisKey::from_parts(slices[..=position].iter().copied());
            prop_assert_eq!(before, prefix.as_bytes());
            prop_assert_eq!(&prefix.join(member), &redis_key);
        }
    }

    #[test]
    fn only_proper_lists_are_keys(term in term(), mut choices in choices()) {
        let is_proper = matches!(&term, Term::List(elements, None) if !elements.is_empty());
        prop_assert_eq!(Key::from_external(&external(&term, &mut choices)).is_ok(), is_proper);
    }
}
