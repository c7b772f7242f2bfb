//! Bytes that nobody vouches for: reading them ends in a value or an error.

use pow_redis_core::etf::{self, AtomForm};
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::pattern::Pattern;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::config;
use crate::encoding::{canonical_external, choices, external};
use crate::term::{Term, term};

/// Reads bytes in every way there is. What one reader takes, the others take too.
fn read(bytes: &[u8]) {
    let checked = etf::check(bytes);
    let canonical = etf::external(bytes, AtomForm::Utf8);
    if let Ok(canonical) = &canonical {
        assert_eq!(etf::check(canonical), Ok(()));
        assert_eq!(
            etf::external(canonical, AtomForm::Utf8).as_ref(),
            Ok(canonical)
        );
        let old = etf::external(bytes, AtomForm::Latin1).unwrap();
        assert_eq!(etf::external(&old, AtomForm::Utf8).as_ref(), Ok(canonical));
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

/// What a change of one place does to bytes.
fn change(bytes: &mut Vec<u8>, place: Index, change: u8, byte: u8) {
    let position = place.index(bytes.len());
    match change {
        0 => bytes[position] = byte,
        1 => bytes[position] ^= 1 << (byte % 8),
        2 => bytes.insert(position, byte),
        3 => drop(bytes.remove(position)),
        4 => bytes.truncate(position.max(1)),
        _ => bytes.extend_from_within(position..),
    }
}

/// Tags, and the bytes that often follow them.
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
    fn any_bytes(bytes in vec(any::<u8>(), 0..64)) {
        read(&bytes);
        read(&[&[131], &bytes[..]].concat());
    }

    #[test]
    fn bytes_that_look_like_a_term(bytes in vec(likely_byte(), 0..64)) {
        read(&[&[131], &bytes[..]].concat());
        read(&[&[131, 108, 0, 0, 0, 2], &bytes[..]].concat());
    }

    #[test]
    fn a_term_with_changes(
        parts in vec(term(), 1..4),
        mut choices in choices(),
        changes in vec((any::<Index>(), 0_u8..6, likely_byte()), 1..4),
    ) {
        let mut bytes = external(&Term::list(parts), &mut choices);
        for (place, kind, byte) in changes {
            change(&mut bytes, place, kind, byte);
            if bytes.is_empty() {
                break;
            }
        }
        read(&bytes);
    }

    #[test]
    fn any_path(redis_key in vec(any::<u8>(), 0..32)) {
        prop_assert!(Key::from_redis_key(&redis_key).is_none_or(|key| !key.redis_key().as_bytes().is_empty()));
    }

    #[test]
    fn a_path_that_looks_like_ours(redis_key in "(g[0-3][A-Za-z0-9_-]{1,9}:?){1,4}") {
        if let Some(key) = Key::from_redis_key(redis_key.as_bytes()) {
            prop_assert_eq!(Key::from_redis_key(key.redis_key().as_bytes()), Some(key));
        }
    }

    #[test]
    fn a_pattern_meets_any_bytes(parts in vec(term(), 0..4), bytes in vec(likely_byte(), 0..48)) {
        let parts = [vec![Term::Binary(vec![b'n'])], parts].concat();
        // A variable as key of a map makes no pattern.
        if let Ok(pattern) = Pattern::from_external(&canonical_external(&Term::list(parts))) {
            pattern.matches(&bytes);
            pattern.matches(&[&[108, 0, 0, 0, 1], &bytes[..]].concat());
        }
    }
}

/// One line for each case that was worth keeping.
#[test]
fn cases_worth_keeping() {
    for bytes in [
        // Nothing, and nothing behind the version byte.
        &[][..],
        &[131],
        // Lengths and numbers far beyond the end.
        &[131, 109, 255, 255, 255, 255],
        &[131, 108, 255, 255, 255, 255],
        &[131, 105, 255, 255, 255, 255],
        &[131, 116, 255, 255, 255, 255],
        &[131, 111, 255, 255, 255, 255, 1],
        &[131, 77, 255, 255, 255, 255, 8],
        // A list without elements: its tail is all there is, be it a list or not.
        &[131, 108, 0, 0, 0, 0, 108, 0, 0, 0, 1, 97, 1, 106],
        &[131, 108, 0, 0, 0, 0, 97, 1],
        &[131, 108, 0, 0, 0, 1, 108, 0, 0, 0, 0, 97, 1, 106],
        // Floats in the old form: not a number, infinite, empty.
        &[&[131, 99], &b"nan"[..], &[0; 28]].concat(),
        &[&[131, 99], &b"inf"[..], &[0; 28]].concat(),
        &[&[131, 99][..], &[0; 31]].concat(),
        // Zero below zero.
        &[131, 110, 1, 1, 0],
        &[131, 110, 0, 1],
        // Bit strings without bits, with too many, and empty ones.
        &[131, 77, 0, 0, 0, 1, 0, 7],
        &[131, 77, 0, 0, 0, 1, 9, 7],
        &[131, 77, 0, 0, 0, 0, 8],
        &[131, 77, 0, 0, 0, 0, 0],
        // A map with one key in two forms, as part of a key and alone.
        &[131, 116, 0, 0, 0, 2, 97, 1, 106, 98, 0, 0, 0, 1, 106],
        &[
            131, 108, 0, 0, 0, 1, 116, 0, 0, 0, 2, 97, 1, 106, 110, 1, 0, 1, 106, 106,
        ],
        // A reference without words, and one whose node is no atom.
        &[131, 90, 0, 0, 119, 1, 97, 0, 0, 0, 0],
        &[131, 90, 0, 1, 97, 1, 0, 0, 0, 0],
        // A variable as key of a map.
        &[
            131, 108, 0, 0, 0, 2, 106, 116, 0, 0, 0, 1, 119, 1, 95, 106, 106,
        ],
    ] {
        read(bytes);
    }
}

#[test]
fn depth_ends_in_an_error_and_not_in_the_stack() {
    let element = |tag: &[u8]| [&[131], &tag.repeat(100_000)[..], &[106]].concat();
    for tag in [
        &[104, 1][..],
        &[105, 0, 0, 0, 1],
        &[108, 0, 0, 0, 1],
        &[116, 0, 0, 0, 1, 106],
        &[116, 0, 0, 0, 1],
        // Lists in tails.
        &[108, 0, 0, 0, 1, 106],
        &[108, 0, 0, 0, 0],
    ] {
        read(&element(tag));
    }
}
