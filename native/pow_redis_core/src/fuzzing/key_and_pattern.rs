//! Properties of keys and patterns.

use super::term::Term;
use crate::error::ErrorKind;
use crate::etf::{skip, term_after_version};
use crate::keyspace::key::{DecodedKey, Key};
use crate::keyspace::pattern::Pattern;
use crate::keyspace::redis_key::part_count;

/// Two external terms, a pattern and a key: a key is read back from its Redis keys, and the pattern matches it
/// if the reference does.
pub fn key_and_pattern(bytes: &[u8]) {
    let (pattern_term, key_term) = split(bytes);
    let pattern = Pattern::from_external(pattern_term);
    let key = Key::from_external(key_term);
    if let Ok(key) = &key {
        round_trip(key);
    }
    match &pattern {
        Err(error) => check_refusal(error.kind(), pattern_term),
        Ok(pattern) => {
            assert!(!pattern.glob().is_empty());
            pattern.matches(key_term);
            if let Ok(key) = &key {
                check_match(pattern, pattern_term, key, key_term);
            }
        }
    }
}

/// The first external term, and the bytes after it. All bytes stand for both if there are no two.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = term_after_version(bytes).ok().and_then(|mut cursor| {
        skip(&mut cursor).ok()?;
        Some(cursor.offset())
    });
    match end.map(|end| bytes.split_at(end)) {
        Some((first, rest)) if !rest.is_empty() => (first, rest),
        _ => (bytes, bytes),
    }
}

fn round_trip(key: &Key) {
    let redis_key = key.redis_key();
    let legacy = key.legacy_redis_key();
    for (bytes, is_legacy) in [(Some(&redis_key), false), (legacy.as_ref(), true)] {
        let Some(bytes) = bytes else { continue };
        assert_eq!(Key::from_redis_key(bytes.as_bytes()).as_ref(), Some(key));
        let decoded = DecodedKey::from_redis_key(bytes.as_bytes());
        let decoded = decoded.map(|decoded| (decoded.parts_term, decoded.is_legacy));
        assert_eq!(decoded, Some((key.parts_term(), is_legacy)));
    }
    assert_ne!(legacy, Some(redis_key));
}

fn check_refusal(kind: &ErrorKind, pattern_term: &[u8]) {
    let term = Term::decode(pattern_term).filter(|term| term.encode().is_some());
    match (kind, term) {
        (ErrorKind::PatternMapKey, term) => {
            assert!(term.is_some_and(|term| term.has_variable_as_key()));
        }
        (ErrorKind::KeyShape, term) => {
            let is_list = matches!(term, Some(Term::List(parts, _)) if !parts.is_empty());
            assert!(!is_list, "refused a list");
        }
        _ => {}
    }
}

fn check_match(pattern: &Pattern, pattern_term: &[u8], key: &Key, key_term: &[u8]) {
    let Some(Term::List(mut pattern_parts, tail)) = Term::decode(pattern_term) else {
        panic!("a pattern that is no list");
    };
    let Some(Term::List(mut parts, None)) = Term::decode(key_term) else {
        panic!("a key that is no proper list");
    };
    // Namespaces are not compared by `matches`: a pattern is tried on the keys of its own.
    let same_namespace = pattern_parts.remove(0).encode() == parts.remove(0).encode();
    let wanted = match tail {
        Some(tail) if pattern_parts.is_empty() => *tail,
        tail => Term::List(pattern_parts, tail),
    };
    assert!(!wanted.has_variable_as_key());
    let matches = pattern.matches(&key.parts_term());
    assert_eq!(matches, wanted.matches(&Term::List(parts, None)));
    let redis_key = key.redis_key();
    if matches {
        assert!(pattern.accepts_part_count(part_count(redis_key.as_bytes())));
    }
    if matches && same_namespace {
        check_covering(pattern, key);
    }
}

/// The prefix, the glob and `is_exact` tell the truth about a key that the pattern matches, with the same
/// namespace.
fn check_covering(pattern: &Pattern, key: &Key) {
    let redis_key = key.redis_key();
    let prefix = pattern.prefix().redis_key();
    assert!(redis_key.as_bytes().starts_with(prefix.as_bytes()));
    assert!(!pattern.is_exact() || prefix == redis_key);
    for redis_key in [Some(redis_key), key.legacy_redis_key()]
        .into_iter()
        .flatten()
    {
        assert!(glob_matches(&pattern.glob(), redis_key.as_bytes()));
    }
}

/// Whether a glob without special characters other than `*` matches.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    // For each length, whether the part of the glob read so far matches the start of the text.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for &wanted in glob {
        if wanted == b'*' {
            let first = reached.iter().position(|&reached| reached);
            reached[first.unwrap_or(text.len())..].fill(first.is_some());
        } else {
            for length in (1..reached.len()).rev() {
                reached[length] = reached[length - 1] && text[length - 1] == wanted;
            }
            reached[0] = false;
        }
    }
    reached[text.len()]
}
