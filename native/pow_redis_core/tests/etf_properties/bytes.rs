//! Untrusted bytes: reading them yields a value or an error, and never panics.

use pow_redis_core::etf::{self, AtomEncoding};
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::pattern::Pattern;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::config;
use crate::encoding::{canonical_external, choices, external};
use crate::term::{Term, term};

/// Reads bytes with every reader, and checks that their results agree.
fn read(bytes: &[u8]) {
    let checked = etf::check(bytes);
    let canonical = etf::canonicalize(bytes, AtomEncoding::Utf8);
    if let Ok(canonical) = &canonical {
        assert_eq!(etf::check(canonical), Ok(()));
        assert_eq!(
            etf::canonicalize(canonical, AtomEncoding::Utf8).as_ref(),
            Ok(canonical)
        );
        let legacy = etf::canonicalize(bytes, AtomEncoding::Latin1).unwrap();
        assert_eq!(
            etf::canonicalize(&legacy, AtomEncoding::Utf8).as_ref(),
            Ok(canonical)
        );
    }
    for error in [checked.err(), canonical.err()].into_iter().flatten() {
        assert!(error.offset() <= bytes.len(), "{error}");
        assert!(!error.to_string().is_empty());
    }
    let key = Key::from_external(bytes);
    if let Ok(key) = &key {
        assert_eq!(
            Key::from_redis_key(key.redis_key().as_bytes()).as_ref(),
            Some(key)
        );
    }
    if let Ok(pattern) = Pattern::from_external(bytes) {
        pattern.matches(bytes);
        pattern.matches(bytes.get(1..).unwrap_or_default());
        let parts = pattern.prefix().parts_term();
        assert!(pattern.matches(&parts) || !pattern.is_exact());
        assert!(!pattern.glob().is_empty());
    }
}

/// Changes bytes at one position.
fn change(bytes: &mut Vec<u8>, index: Index, kind: u8, byte: u8) {
    let position = index.index(bytes.len());
    match kind {
        0 => bytes[position] = byte,
        1 => bytes[position] ^= 1 << (byte % 8),
        2 => bytes.insert(position, byte),
        3 => drop(bytes.remove(position)),
        4 => bytes.truncate(position.max(1)),
        _ => bytes.extend_from_within(position..),
    }
}

/// Tags, and bytes that often follow them.
fn likely_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        select(vec![
            70, 77, 80, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109,
            110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 131,
        ]),
        0_u8..4,
        any::<u8>(),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn reads_any_bytes(bytes in vec(any::<u8>(), 0..64)) {
        read(&bytes);
        read(&[&[131], &bytes[..]].concat());
    }

    #[test]
    fn reads_bytes_that_look_like_a_term(bytes in vec(likely_byte(), 0..64)) {
        read(&[&[131], &bytes[..]].concat());
        read(&[&[131, 108, 0, 0, 0, 2], &bytes[..]].concat());
    }

    #[test]
    fn reads_a_corrupted_term(
        parts in vec(term(), 1..4),
        mut choices in choices(),
        changes in vec((any::<Index>(), 0_u8..6, likely_byte()), 1..4),
    ) {
        let mut bytes = external(&Term::list(parts), &mut choices);
        for (index, kind, byte) in changes {
            change(&mut bytes, index, kind, byte);
            if bytes.is_empty() {
                break;
            }
        }
        read(&bytes);
    }

    #[test]
    fn decodes_any_redis_key(redis_key in vec(any::<u8>(), 0..32)) {
        prop_assert!(Key::from_redis_key(&redis_key).is_none_or(|key| !key.redis_key().as_bytes().is_empty()));
    }

    #[test]
    fn decodes_redis_keys_that_look_valid(redis_key in "(g[0-3][A-Za-z0-9_-]{1,9}:?){1,4}") {
        if let Some(key) = Key::from_redis_key(redis_key.as_bytes()) {
            prop_assert_eq!(Key::from_redis_key(key.redis_key().as_bytes()), Some(key));
        }
    }

    #[test]
    fn a_pattern_matches_any_bytes_without_panic(parts in vec(term(), 0..4), bytes in vec(likely_byte(), 0..48)) {
        let parts = [vec![Term::Binary(vec![b'n'])], parts].concat();
        // A variable as a map key is rejected.
        if let Ok(pattern) = Pattern::from_external(&canonical_external(&Term::list(parts))) {
            pattern.matches(&bytes);
            pattern.matches(&[&[108, 0, 0, 0, 1], &bytes[..]].concat());
        }
    }
}

/// Cases that have failed once, or are easy to get wrong.
#[test]
fn regressions() {
    for bytes in [
        // No bytes, and none after the version byte.
        &[][..],
        &[131],
        // Lengths and counts far beyond the end.
        &[131, 109, 255, 255, 255, 255],
        &[131, 108, 255, 255, 255, 255],
        &[131, 105, 255, 255, 255, 255],
        &[131, 116, 255, 255, 255, 255],
        &[131, 111, 255, 255, 255, 255, 1],
        &[131, 77, 255, 255, 255, 255, 8],
        // Lists without elements, whose tail is a list or another term.
        &[131, 108, 0, 0, 0, 0, 108, 0, 0, 0, 1, 97, 1, 106],
        &[131, 108, 0, 0, 0, 0, 97, 1],
        &[131, 108, 0, 0, 0, 1, 108, 0, 0, 0, 0, 97, 1, 106],
        // Floats as text: not a number, infinite, empty.
        &[&[131, 99], &b"nan"[..], &[0; 28]].concat(),
        &[&[131, 99], &b"inf"[..], &[0; 28]].concat(),
        &[&[131, 99][..], &[0; 31]].concat(),
        // Negative zero, and an integer beyond the end.
        &[131, 110, 1, 1, 0],
        &[131, 110, 0, 1],
        // Bit strings with no, too many, and unused bits.
        &[131, 77, 0, 0, 0, 1, 0, 7],
        &[131, 77, 0, 0, 0, 1, 9, 7],
        &[131, 77, 0, 0, 0, 0, 8],
        &[131, 77, 0, 0, 0, 0, 0],
        // Maps with one key in two encodings.
        &[131, 116, 0, 0, 0, 2, 97, 1, 106, 98, 0, 0, 0, 1, 106],
        &[
            131, 108, 0, 0, 0, 1, 116, 0, 0, 0, 2, 97, 1, 106, 110, 1, 0, 1, 106, 106,
        ],
        // A reference without words, and one whose node is not an atom.
        &[131, 90, 0, 0, 119, 1, 97, 0, 0, 0, 0],
        &[131, 90, 0, 1, 97, 1, 0, 0, 0, 0],
        // A variable as a map key.
        &[
            131, 108, 0, 0, 0, 2, 106, 116, 0, 0, 0, 1, 119, 1, 95, 106, 106,
        ],
    ] {
        read(bytes);
    }
}

#[test]
fn deeply_nested_terms_do_not_overflow_the_stack() {
    let element = |tag: &[u8]| [&[131], &tag.repeat(100_000)[..], &[106]].concat();
    for tag in [
        &[104, 1][..],
        &[105, 0, 0, 0, 1],
        &[108, 0, 0, 0, 1],
        &[116, 0, 0, 0, 1, 106],
        &[116, 0, 0, 0, 1],
        // Lists as tails.
        &[108, 0, 0, 0, 1, 106],
        &[108, 0, 0, 0, 0],
    ] {
        read(&element(tag));
    }
}
