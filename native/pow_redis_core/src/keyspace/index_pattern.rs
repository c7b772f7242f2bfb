//! A pattern of the keys that an index set lists.

use super::key::Key;
use super::pattern::Pattern;
use super::redis_key::MAX_PARTS;
use crate::etf::{AtomEncoding, VERSION, canonicalize};

/// The atom `_`, an external term.
const WILDCARD: &[u8] = &[VERSION, 119, 1, b'_'];

/// A pattern of the parts after the namespace: terms that match themselves, and `:_`, which matches any
/// term. It ends with at least one `:_`. The parts in front of these name the index set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPattern {
    /// External terms in canonical form; `None` matches any.
    parts: Vec<Option<Vec<u8>>>,
    /// The number of parts that name the set, the namespace included.
    prefix_len: usize,
}

impl IndexPattern {
    /// A pattern from an external term, a list. Returns `None` if the list does not end with `:_`, or no key
    /// has as many parts.
    pub fn from_external(bytes: &[u8]) -> Option<Self> {
        let list = canonicalize(bytes, AtomEncoding::Utf8).ok()?;
        let parts: Vec<_> = Key::split(&list)
            .ok()??
            .into_iter()
            .map(|part| (part != WILDCARD).then_some(part))
            .collect();
        let wildcards = parts.iter().rev().take_while(|part| part.is_none()).count();
        (wildcards > 0 && parts.len() < MAX_PARTS).then(|| Self {
            prefix_len: 1 + parts.len() - wildcards,
            parts,
        })
    }

    /// The number of parts that name the set, the namespace included.
    pub(super) const fn prefix_len(&self) -> usize {
        self.prefix_len
    }

    /// Whether the set of these parts lists a key.
    pub(super) fn matches(&self, key: &Key) -> bool {
        let parts = key.parts_after_namespace();
        parts.len() == self.parts.len() && self.matches_leading(parts)
    }

    /// Whether a set, given by the parts that name it, is one of this pattern.
    pub(super) fn names(&self, prefix: &Key) -> bool {
        let parts = prefix.parts_after_namespace();
        1 + parts.len() == self.prefix_len && self.matches_leading(parts)
    }

    fn matches_leading(&self, parts: &[Vec<u8>]) -> bool {
        let mut pairs = self.parts.iter().zip(parts);
        pairs.all(|(own, part)| own.as_ref().is_none_or(|own| own == part))
    }

    /// Whether one set lists all keys that match `pattern`.
    pub(super) fn covers(&self, pattern: &Pattern) -> bool {
        let Some(literals) = pattern.literals() else {
            return false;
        };
        let mut pairs = self.parts.iter().zip(&literals);
        literals.len() == self.parts.len()
            && pattern.prefix().part_count() >= self.prefix_len
            && pairs.all(|(own, literal)| own.as_deref().is_none_or(|own| own.get(1..) == *literal))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn ends_with_a_wildcard() {
        for (parts, prefix_len) in [
            (&[ANY][..], Some(1)),
            (&[ATOM_A, ANY], Some(2)),
            (&[ANY, ATOM_A, ANY, ANY], Some(3)),
            (&[ATOM_A], None),
            (&[ANY, ATOM_A], None),
            (&[ANY; 64], Some(1)),
            (&[ANY; 65], None),
        ] {
            let count = u32::try_from(parts.len()).unwrap().to_be_bytes();
            let list = [&[131, 108], &count[..], &parts.concat(), &[106]].concat();
            let len = IndexPattern::from_external(&list).map(|pattern| pattern.prefix_len());
            assert_eq!(len, prefix_len, "{parts:?}");
        }
        for other in [&[131, 106][..], &[131, 97, 1], &[], &[131, 107, 0, 1, 7]] {
            assert_eq!(IndexPattern::from_external(other), None, "{other:?}");
        }
    }

    #[test]
    fn matches_keys_with_as_many_parts() {
        let pattern = index_pattern(&[ANY, ATOM_A, ANY]);
        assert!(pattern.matches(&key(&[INT_1, ATOM_A, INT_2])));
        assert!(!pattern.matches(&key(&[INT_1, INT_1, INT_2])));
        assert!(!pattern.matches(&key(&[INT_1, ATOM_A])));
        assert!(!pattern.matches(&key(&[INT_1, ATOM_A, INT_2, INT_2])));
    }

    #[test]
    fn names_the_sets_of_the_keys_it_matches() {
        let pattern = index_pattern(&[ANY, ATOM_A, ANY]);
        assert!(pattern.names(&key(&[INT_1, ATOM_A])));
        assert!(!pattern.names(&key(&[INT_1, INT_1])));
        assert!(!pattern.names(&key(&[INT_1])));
        assert!(!pattern.names(&key(&[INT_1, ATOM_A, INT_2])));
    }

    #[test]
    fn covers_patterns_whose_keys_are_in_one_set() {
        let index = index_pattern(&[ANY, ATOM_A, ANY]);
        let covers = |parts: &[&[u8]]| index.covers(&pattern(parts));
        assert!(covers(&[INT_1, ATOM_A, ANY]));
        assert!(covers(&[INT_1, ATOM_A, VARIABLE]));
        assert!(covers(&[INT_1, ATOM_A, INT_2]));
        // The set has no name without the first part.
        assert!(!covers(&[ANY, ATOM_A, ANY]));
        assert!(!covers(&[VARIABLE, ATOM_A, INT_1]));
        // Other keys match as well.
        assert!(!covers(&[INT_1, ANY, ANY]));
        assert!(!covers(&[INT_1, INT_2, ANY]));
        assert!(!covers(&[INT_1, ATOM_A]));
        assert!(!covers(&[INT_1, ATOM_A, ANY, ANY]));
        assert!(!index.covers(&improper_pattern(&[INT_1, ATOM_A, ANY])));
    }
}
