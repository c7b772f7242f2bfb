//! Properties of patterns, compared with a matcher on terms.

use pow_redis_core::error::ErrorKind;
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::pattern::Pattern;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;
use crate::encoding::{canonical, canonical_external, choices, encode, external};
use crate::term::{Term, term};

const NAMESPACE: &[u8] = b"n";

fn namespaced(parts: &[Term]) -> Term {
    Term::list([&[Term::Binary(NAMESPACE.to_vec())], parts].concat())
}

fn is_wildcard(text: &str) -> bool {
    text == "_" || text == "$1" || text == "$2"
}

/// The reference implementation: whether a pattern matches a term.
fn matches(pattern: &Term, term: &Term, bound: &mut Vec<(String, Term)>) -> bool {
    match (pattern, term) {
        (Term::Atom(text), _) if text == "_" => true,
        (Term::Atom(text), _) if is_wildcard(text) => {
            match bound.iter().find(|(name, _)| name == text) {
                Some((_, known)) => known == term,
                None => {
                    bound.push((text.clone(), term.clone()));
                    true
                }
            }
        }
        (Term::List(wanted, wanted_tail), Term::List(found, tail)) => {
            if found.len() < wanted.len() || !all_match(wanted, found, bound) {
                return false;
            }
            let rest = match (found.get(wanted.len()..), tail) {
                (Some([]), Some(tail)) => (**tail).clone(),
                (rest, tail) => Term::List(rest.unwrap_or_default().to_vec(), tail.clone()),
            };
            match wanted_tail {
                None => rest == Term::list(vec![]),
                Some(wanted) => matches(wanted, &rest, bound),
            }
        }
        (Term::Tuple(wanted), Term::Tuple(found)) => {
            wanted.len() == found.len() && all_match(wanted, found, bound)
        }
        (Term::Map(wanted), Term::Map(found)) => wanted.iter().all(|(key, wanted)| {
            let value = found.iter().find(|(other, _)| other == key);
            value.is_some_and(|(_, value)| matches(wanted, value, bound))
        }),
        _ => pattern == term,
    }
}

fn all_match(wanted: &[Term], found: &[Term], bound: &mut Vec<(String, Term)>) -> bool {
    let mut pairs = wanted.iter().zip(found);
    pairs.all(|(wanted, found)| matches(wanted, found, bound))
}

/// Whether a pattern has a variable as a map key, which is not allowed.
fn has_variable_as_key(term: &Term) -> bool {
    match term {
        Term::List(elements, _) | Term::Tuple(elements) => elements.iter().any(has_variable_as_key),
        Term::Map(pairs) => pairs.iter().any(|(key, value)| {
            matches!(key, Term::Atom(text) if is_wildcard(text))
                || has_variable_as_key(key)
                || has_variable_as_key(value)
        }),
        _ => false,
    }
}

/// Replaces some terms by wildcards, depending on the choices. Zero keeps a term.
fn generalize(term: &Term, choices: &mut impl Iterator<Item = u8>) -> Term {
    match choices.next().unwrap_or(0) % 8 {
        5 => return Term::atom("_"),
        6 => return Term::atom("$1"),
        7 => return Term::atom("$2"),
        _ => {}
    }
    match term {
        Term::List(elements, tail) => {
            let elements = elements.iter().map(|e| generalize(e, choices)).collect();
            Term::List(elements, tail.clone())
        }
        Term::Tuple(elements) => {
            Term::Tuple(elements.iter().map(|e| generalize(e, choices)).collect())
        }
        Term::Map(pairs) => {
            let mut kept = Vec::new();
            for (key, value) in pairs {
                if choices.next().unwrap_or(0) % 4 != 3 {
                    kept.push((key.clone(), generalize(value, choices)));
                }
            }
            Term::Map(kept)
        }
        _ => term.clone(),
    }
}

/// Whether a glob without special characters other than `*` matches.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skipped| glob_matches(rest, &text[skipped..])),
        Some((byte, rest)) => text
            .split_first()
            .is_some_and(|(first, text)| first == byte && glob_matches(rest, text)),
    }
}

fn check_match(pattern_parts: &[Term], parts: &[Term], bytes: &[u8]) -> Result<(), TestCaseError> {
    let pattern = match Pattern::from_external(bytes) {
        Err(error) => {
            prop_assert_eq!(error.kind(), &ErrorKind::PatternMapKey);
            prop_assert!(pattern_parts.iter().any(has_variable_as_key));
            return Ok(());
        }
        Ok(pattern) => pattern,
    };
    prop_assert!(!pattern_parts.iter().any(has_variable_as_key));
    let key = Key::from_external(&canonical_external(&namespaced(parts))).unwrap();
    let pattern_term = Term::list(pattern_parts.to_vec());
    let expected = matches(&pattern_term, &Term::list(parts.to_vec()), &mut Vec::new());
    prop_assert_eq!(pattern.matches(&key.parts_term()), expected);
    if !expected {
        return Ok(());
    }
    let prefix = pattern.prefix().redis_key();
    prop_assert!(key.redis_key().as_bytes().starts_with(prefix.as_bytes()));
    prop_assert!(!pattern.is_exact() || prefix == key.redis_key());
    for redis_key in [Some(key.redis_key()), key.legacy_redis_key()]
        .into_iter()
        .flatten()
    {
        prop_assert!(glob_matches(&pattern.glob(), redis_key.as_bytes()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_key_matches_itself(parts in vec(term(), 0..4), mut choices in choices()) {
        let written = external(&namespaced(&parts), &mut choices);
        check_match(&parts, &parts, &written)?;
    }

    #[test]
    fn patterns_with_wildcards_match_as_the_reference_does(
        parts in vec(term(), 0..4),
        replacements in vec(any::<u8>(), 0..24),
        mut choices in choices(),
    ) {
        let mut replacements = replacements.into_iter();
        let pattern: Vec<_> = parts
            .iter()
            .map(|part| generalize(part, &mut replacements))
            .collect();
        let bytes = external(&namespaced(&pattern), &mut choices);
        check_match(&pattern, &parts, &bytes)?;
    }

    #[test]
    fn wildcards_match_as_many_parts(
        parts in vec(term(), 0..5),
        wildcards in 0_usize..5,
    ) {
        let pattern = vec![Term::atom("_"); wildcards];
        check_match(&pattern, &parts, &canonical_external(&namespaced(&pattern)))?;
    }

    #[test]
    fn a_wildcard_as_the_tail_matches_further_parts(
        parts in vec(term(), 0..5),
        literals in 0_usize..5,
    ) {
        let front = parts[..literals.min(parts.len())].to_vec();
        let tail = || Some(Box::new(Term::atom("_")));
        let Term::List(elements, None) = namespaced(&front) else { unreachable!() };
        let written = canonical_external(&Term::List(elements, tail()));
        // A variable as a map key is rejected.
        if let Ok(pattern) = Pattern::from_external(&written) {
            prop_assert!(!pattern.is_exact());
            let list = Term::list(parts);
            let expected = matches(&Term::List(front, tail()), &list, &mut Vec::new());
            prop_assert_eq!(pattern.matches(&canonical(&list)), expected);
        }
    }

    #[test]
    fn unrelated_terms_match_as_the_reference_does(
        pattern in vec(term(), 0..3),
        parts in vec(term(), 0..3),
        mut choices in choices(),
    ) {
        let bytes = external(&namespaced(&pattern), &mut choices);
        check_match(&pattern, &parts, &bytes)?;
    }

    #[test]
    fn all_encodings_of_a_pattern_are_equal(term in term(), mut choices in choices()) {
        let pattern = |list: Vec<u8>| {
            let written = [&[131, 108, 0, 0, 0, 2, 106], &list[..], &[106]].concat();
            let pattern = Pattern::from_external(&written);
            pattern.map(|pattern| format!("{pattern:?}"))
        };
        let other = encode(&term, &mut choices);
        prop_assert_eq!(pattern(other), pattern(canonical(&term)));
    }
}
