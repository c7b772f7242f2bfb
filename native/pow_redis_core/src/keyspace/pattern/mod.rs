//! Patterns of keys, with the semantics of `:ets` match specifications.
//!
//! `:_` matches any term. `:"$1"`, `:"$2"`, … match any term, but the same term each time. Tuples and lists
//! match element by element. A map matches maps that contain its keys with matching values. Any other term
//! matches itself only (`1` does not match `1.0`).

mod matcher;
mod node;

use self::matcher::list_matches;
use self::node::{Bindings, Node};
use super::key::{Key, is_too_long};
use crate::error::{Error, ErrorKind};
use crate::etf::{
    AtomEncoding, Cursor, Elements, Head, ListWriter, VERSION, canonicalize, term_after_version,
};

/// A pattern of the keys in one namespace.
#[derive(Clone, Debug)]
pub struct Pattern {
    namespace: Vec<u8>,
    /// The namespace and the leading literal parts.
    prefix: Key,
    leading_literals: usize,
    /// The parts after the namespace.
    parts: Vec<Node>,
    /// What follows the parts: the empty list, unless the pattern is improper.
    tail: Node,
}

impl Pattern {
    /// A pattern from an external term, the list `[namespace | pattern]`. The namespace is a literal, even
    /// if it looks like a variable.
    pub fn from_external(bytes: &[u8]) -> Result<Self, Error> {
        if is_too_long(bytes) {
            return Err(ErrorKind::PatternTooLong.into());
        }
        let list = canonicalize(bytes, AtomEncoding::Utf8).map_err(ErrorKind::Pattern)?;
        let mut cursor = term_after_version(&list).map_err(ErrorKind::Pattern)?;
        let Some(mut elements) = Elements::read(&mut cursor).map_err(ErrorKind::Pattern)? else {
            return Err(ErrorKind::KeyShape.into());
        };
        let Some(namespace) = elements.next_element().map_err(ErrorKind::Pattern)? else {
            return Err(ErrorKind::KeyShape.into());
        };
        let namespace = namespace.to_term();
        let (parts, tail) = Node::compile_list(elements)?;
        let mut prefix = vec![versioned(&namespace)];
        for part in &parts {
            match part {
                Node::Literal(term) => prefix.push(versioned(term)),
                _ => break,
            }
        }
        Ok(Self {
            namespace,
            leading_literals: prefix.len() - 1,
            prefix: Key::from_parts(prefix),
            parts,
            tail,
        })
    }

    /// The namespace and the literal parts before the first other part.
    pub const fn prefix(&self) -> &Key {
        &self.prefix
    }

    /// Whether no key but the prefix can match.
    pub fn is_exact(&self) -> bool {
        self.leading_literals == self.parts.len() && self.is_proper()
    }

    /// Whether matching keys have as many parts as the pattern.
    fn is_proper(&self) -> bool {
        self.tail == Node::Literal(NIL.to_vec())
    }

    /// The parts after the namespace: a literal as a term, `None` for any other part. Returns `None` if keys
    /// with more parts match as well.
    pub(super) fn literals(&self) -> Option<Vec<Option<&[u8]>>> {
        let literals = self.parts.iter().map(|part| match part {
            Node::Literal(term) => Some(term.as_slice()),
            _ => None,
        });
        self.is_proper().then(|| literals.collect())
    }

    /// Whether a key with this many parts, including the namespace, can match. A cheap test that rules out
    /// most members of an index set.
    pub fn accepts_part_count(&self, count: usize) -> bool {
        let own = 1 + self.parts.len();
        if self.is_proper() {
            count == own
        } else {
            count >= own
        }
    }

    /// Whether a key matches, given the list of its parts after the namespace in canonical form.
    pub fn matches(&self, parts_term: &[u8]) -> bool {
        let mut bindings = Bindings::new();
        list_matches(&self.parts, &self.tail, parts_term, &mut bindings).unwrap_or(false)
    }

    /// What the pattern looks like. Shows no ids.
    pub fn shape(&self) -> Shape {
        let mut pattern = vec![VERSION];
        let mut list = ListWriter::begin(&mut pattern);
        for part in &self.parts {
            list.count_element();
            match part {
                Node::Literal(term) if is_atom(term) => pattern.extend(term),
                _ => pattern.extend(ANY),
            }
        }
        list.end(&mut pattern);
        Shape {
            pattern,
            can_be_indexed: self.is_proper()
                && self
                    .parts
                    .iter()
                    .skip(self.leading_literals)
                    .all(|part| !matches!(part, Node::Literal(_))),
        }
    }

    /// A glob for `SCAN` that covers the Redis keys of all matching keys, canonical and legacy.
    pub fn glob(&self) -> Vec<u8> {
        let literal = |term: &[u8]| {
            let key = Key::from_parts(vec![versioned(term)]);
            match key.legacy_redis_key() {
                None => key.redis_key().into_bytes(),
                Some(_) => b"*".to_vec(),
            }
        };
        let mut globs = vec![literal(&self.namespace)];
        globs.extend(self.parts.iter().map(|node| match node {
            Node::Literal(term) => literal(term),
            _ => b"*".to_vec(),
        }));
        let mut glob = globs.join(&b':');
        if !self.is_proper() {
            glob.push(b'*');
        }
        glob
    }
}

/// What a pattern looks like, for those who choose what is indexed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The pattern without its terms, except atoms: an external term.
    pub pattern: Vec<u8>,
    /// Whether an index set could list all keys that match.
    pub can_be_indexed: bool,
}

/// The empty list.
const NIL: &[u8] = &[106];

/// The atom `_`.
const ANY: &[u8] = &[119, 1, b'_'];

fn is_atom(term: &[u8]) -> bool {
    matches!(Head::read(&mut Cursor::new(term)), Ok(Head::Atom(_)))
}

fn versioned(term: &[u8]) -> Vec<u8> {
    [&[VERSION], term].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etf::write_canonical;

    const ONE: &[u8] = &[119, 2, b'$', b'1'];
    const A: &[u8] = &[119, 1, b'a'];
    const INT: &[u8] = &[97, 7];

    /// The list of a key's parts in canonical form.
    fn parts_term(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_canonical(&mut Cursor::new(bytes), AtomEncoding::Utf8, &mut out).unwrap();
        out
    }

    fn list(elements: &[&[u8]], tail: &[u8]) -> Vec<u8> {
        let count = u32::try_from(elements.len()).unwrap().to_be_bytes();
        [&[108], &count[..], &elements.concat(), tail].concat()
    }

    fn map(pairs: &[&[u8]]) -> Vec<u8> {
        let count = u32::try_from(pairs.len() / 2).unwrap().to_be_bytes();
        [&[116], &count[..], &pairs.concat()].concat()
    }

    fn tuple(elements: &[&[u8]]) -> Vec<u8> {
        [
            &[104, u8::try_from(elements.len()).unwrap()],
            &elements.concat()[..],
        ]
        .concat()
    }

    fn pattern(parts: &[&[u8]], tail: &[u8]) -> Pattern {
        let namespaced = [&[&[109, 0, 0, 0, 1, b'n'][..]], parts].concat();
        Pattern::from_external(&versioned(&list(&namespaced, tail))).unwrap()
    }

    fn matches(pattern_parts: &[&[u8]], parts: &[&[u8]]) -> bool {
        pattern(pattern_parts, NIL).matches(&parts_term(&list(parts, NIL)))
    }

    #[test]
    fn matches_part_by_part() {
        assert!(matches(&[ANY], &[A]));
        assert!(matches(&[ANY], &[INT]));
        assert!(!matches(&[ANY], &[A, A]));
        assert!(!matches(&[ANY], &[]));
        assert!(matches(&[A, ANY], &[&[100, 0, 1, b'a'], INT]));
        assert!(!matches(&[A, ANY], &[INT, A]));
        assert!(matches(&[ONE, ONE], &[INT, INT]));
        assert!(!matches(&[ONE, ONE], &[INT, A]));
        assert!(!matches(&[INT], &[&[70, 64, 28, 0, 0, 0, 0, 0, 0]]));
    }

    #[test]
    fn matches_nested_terms() {
        let nested = list(&[A, ANY], NIL);
        assert!(matches(&[&nested, ANY], &[&list(&[A, INT], NIL), INT]));
        assert!(!matches(&[&nested, ANY], &[&list(&[A], NIL), INT]));
        assert!(matches(
            &[&tuple(&[A, ONE]), ONE],
            &[&tuple(&[A, INT]), INT]
        ));
        assert!(!matches(&[&tuple(&[A, ONE])], &[&tuple(&[A])]));
        let string = list(&[INT, ANY], NIL);
        assert!(matches(&[&string], &[&[107, 0, 2, 7, 9]]));
        assert!(!matches(&[&string], &[&[107, 0, 2, 8, 9]]));
        let improper = list(&[INT], ANY);
        assert!(matches(&[&improper], &[&[107, 0, 2, 7, 9]]));
        assert!(matches(&[&improper], &[&list(&[INT], A)]));
    }

    #[test]
    fn a_map_matches_maps_with_more_pairs() {
        let full = map(&[INT, A, A, INT]);
        assert!(matches(&[&map(&[A, ANY])], &[&full]));
        assert!(matches(&[&map(&[])], &[&full]));
        assert!(matches(&[&map(&[A, INT, INT, A])], &[&full]));
        assert!(!matches(&[&map(&[A, A])], &[&full]));
        assert!(!matches(&[&map(&[NIL, ANY])], &[&full]));
        assert!(!matches(&[&map(&[])], &[A]));
        let namespaced = list(&[INT, &map(&[ONE, A])], NIL);
        let error = Pattern::from_external(&versioned(&namespaced)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PatternMapKey);
    }

    #[test]
    fn an_improper_pattern_matches_any_number_of_further_parts() {
        let improper = pattern(&[A], ANY);
        assert!(!improper.is_exact());
        for parts in [&[A][..], &[A, INT], &[A, A, A]] {
            assert!(
                improper.matches(&parts_term(&list(parts, NIL))),
                "{parts:?}"
            );
        }
        assert!(!improper.matches(&parts_term(&list(&[INT, A], NIL))));
    }

    #[test]
    fn the_prefix_ends_before_the_first_part_that_is_no_literal() {
        let redis_key =
            |parts: &[&[u8]]| pattern(parts, NIL).prefix().redis_key().as_bytes().to_vec();
        assert_eq!(redis_key(&[ANY]), b"g20AAAABbg");
        assert_eq!(redis_key(&[INT, ANY, INT]), b"g20AAAABbg:g2EH");
        assert_eq!(redis_key(&[&map(&[]), INT]), b"g20AAAABbg");
        assert_eq!(redis_key(&[INT]), b"g20AAAABbg:g2EH");
        assert!(pattern(&[INT], NIL).is_exact());
        assert!(pattern(&[&tuple(&[A, INT])], NIL).is_exact());
        assert!(!pattern(&[&tuple(&[A, ANY])], NIL).is_exact());
        assert!(pattern(&[&list(&[A, INT], NIL)], NIL).is_exact());
        assert!(pattern(&[&list(&[A, INT], A)], NIL).is_exact());
        assert!(!pattern(&[&list(&[ANY, INT], NIL)], NIL).is_exact());
        assert!(!pattern(&[&list(&[A, INT], ANY)], NIL).is_exact());
    }

    #[test]
    fn rules_out_keys_by_their_number_of_parts() {
        let accepted = |pattern: Pattern| -> Vec<_> {
            let counts = 1..=5;
            counts
                .filter(|&count| pattern.accepts_part_count(count))
                .collect()
        };
        assert_eq!(accepted(pattern(&[A, ANY], NIL)), [3]);
        assert_eq!(accepted(pattern(&[A, ANY], ANY)), [3, 4, 5]);
    }

    #[test]
    fn rejects_more_parts_than_a_key_has() {
        let outcome = |parts: usize| {
            let list = versioned(&list(&vec![ANY; parts], NIL));
            Pattern::from_external(&list).map(|pattern| pattern.parts.len())
        };
        assert_eq!(outcome(65), Ok(64));
        assert_eq!(outcome(66), Err(ErrorKind::PatternTooLong.into()));
    }

    #[test]
    fn a_shape_shows_atoms_only() {
        let shape = |parts: &[&[u8]], tail| pattern(parts, tail).shape();
        for (parts, tail, shown, can_be_indexed) in [
            (&[A, INT, ANY][..], NIL, &[A, ANY, ANY][..], true),
            (&[A, &tuple(&[A, ANY])], NIL, &[A, ANY], true),
            (&[A, ONE, A], NIL, &[A, ANY, A], false),
            (&[A, ANY], ANY, &[A, ANY], false),
        ] {
            let expected = Shape {
                pattern: versioned(&list(shown, NIL)),
                can_be_indexed,
            };
            assert_eq!(shape(parts, tail), expected, "{parts:?}");
        }
    }

    #[test]
    fn globs_cover_legacy_keys() {
        assert_eq!(pattern(&[INT, A, ANY], NIL).glob(), b"g20AAAABbg:g2EH:*:*");
        assert_eq!(pattern(&[INT], ANY).glob(), b"g20AAAABbg:g2EH*");
    }
}
