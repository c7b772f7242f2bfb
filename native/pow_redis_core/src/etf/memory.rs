//! How much memory terms take in the VM.
//!
//! A term may take many times its bytes: each element of a list takes 16 bytes, but its encoding as little as
//! one. The estimate is for 64-bit systems, and rounded up where releases of Erlang/OTP differ.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{Atom, Cursor, Error, ErrorKind, Head, Integer, MAX_DEPTH, term_after_version};

/// The most memory that a value may take in the VM: 128 MB.
pub const MAX_VALUE_MEMORY: usize = 128 << 20;
/// The most different atoms of a value. The VM never frees atoms, and stops when it has a million.
pub const MAX_VALUE_ATOMS: usize = 8_192;

const WORD: usize = 8;
/// Longer binaries are stored outside of the heap.
const MAX_HEAP_BINARY: usize = 64;
/// What such a binary takes in addition to its bytes.
const BINARY_WORDS: usize = 16;
/// What a bit string takes in addition to its bytes.
const SUB_BINARY_WORDS: usize = 6;
/// A map with more pairs is a tree.
const MAX_FLAT_MAP: u32 = 32;
/// The integers that take no memory: 60 bits, one of them the sign.
const SMALL_INTEGERS: std::ops::Range<i64> = -(1 << 59)..1 << 59;
/// A pid, port or reference of another node.
const OPAQUE_WORDS: usize = 8;

/// Reads one term. Returns how much memory it takes. Fails if it has too many different atoms.
pub fn term_memory(cursor: &mut Cursor<'_>) -> Result<usize, Error> {
    let start = *cursor;
    let mut meter = Meter::default();
    meter.term(cursor, MAX_DEPTH)?;
    if meter.atoms > MAX_VALUE_ATOMS {
        // Most values have fewer atoms in all, so only here they are compared.
        let mut again = Meter::comparing_atoms();
        again.term(&mut start.clone(), MAX_DEPTH)?;
    }
    Ok(meter.words.saturating_mul(WORD))
}

/// How many bytes a valid value takes outside of the heap of a process.
pub fn off_heap_bytes(value: &[u8]) -> usize {
    let mut meter = Meter::default();
    let measured = term_after_version(value).and_then(|mut term| meter.term(&mut term, MAX_DEPTH));
    measured.map_or(0, |()| meter.off_heap)
}

/// Adds up what terms take.
#[derive(Default)]
struct Meter<'a> {
    words: usize,
    /// The bytes of binaries outside of the heap.
    off_heap: usize,
    atoms: usize,
    /// The different atoms, if they are compared.
    different: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Meter<'a> {
    fn comparing_atoms() -> Self {
        Self {
            different: Some(HashSet::new()),
            ..Self::default()
        }
    }

    fn term(&mut self, cursor: &mut Cursor<'a>, depth: usize) -> Result<(), Error> {
        let start = *cursor;
        let head = Head::read(cursor)?;
        self.words = self.words.saturating_add(words(&head));
        if let Head::Binary(bytes) | Head::Bits(bytes, _) = head
            && bytes.len() > MAX_HEAP_BINARY
        {
            self.off_heap += WORD * binary_words(bytes);
        }
        let terms = match head {
            Head::Atom(atom) => return self.atom(atom, start),
            Head::Opaque(opaque) => return self.atom(opaque.node, start),
            Head::List(elements) => u64::from(elements) + 1,
            Head::Tuple(elements) => u64::from(elements),
            Head::Map(pairs) => 2 * u64::from(pairs),
            _ => return Ok(()),
        };
        let below = depth
            .checked_sub(1)
            .ok_or_else(|| start.error(ErrorKind::Depth))?;
        for _ in 0..terms {
            self.term(cursor, below)?;
        }
        Ok(())
    }

    fn atom(&mut self, atom: Atom<'a>, start: Cursor<'_>) -> Result<(), Error> {
        self.atoms += 1;
        if let Some(different) = &mut self.different {
            different.insert(atom.text());
            if different.len() > MAX_VALUE_ATOMS {
                return Err(start.error(ErrorKind::Atoms));
            }
        }
        Ok(())
    }
}

/// The words that a term takes, without the terms that it contains.
fn words(head: &Head<'_>) -> usize {
    match *head {
        Head::Atom(_) | Head::Nil => 0,
        Head::Integer(Integer::Small(value)) => {
            if SMALL_INTEGERS.contains(&value) {
                0
            } else {
                2
            }
        }
        Head::Integer(Integer::Big { magnitude, .. }) => 1 + words_of(magnitude),
        Head::Float(_) => 2,
        Head::Binary(bytes) => binary_words(bytes),
        Head::Bits(bytes, _) => SUB_BINARY_WORDS + binary_words(bytes),
        Head::String(bytes) => 2 * bytes.len(),
        Head::List(elements) => count(elements).saturating_mul(2),
        Head::Tuple(elements) => count(elements).saturating_add(1),
        // The keys of a small map are a tuple. In a tree, each pair has a node of its own, and others above.
        Head::Map(pairs @ 0..=MAX_FLAT_MAP) => 4 + 2 * count(pairs),
        Head::Map(pairs) => count(pairs).saturating_mul(4),
        Head::Opaque(_) => OPAQUE_WORDS,
    }
}

const fn binary_words(bytes: &[u8]) -> usize {
    if bytes.len() <= MAX_HEAP_BINARY {
        2 + words_of(bytes)
    } else {
        BINARY_WORDS + words_of(bytes)
    }
}

const fn words_of(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(WORD)
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: &[u8]) -> Result<usize, Error> {
        let mut cursor = Cursor::new(bytes);
        let memory = term_memory(&mut cursor)?;
        assert!(cursor.rest().is_empty());
        Ok(memory)
    }

    #[test]
    fn adds_up_what_each_kind_of_term_takes() {
        let binary = |length: u8| [&[109, 0, 0, 0, length][..], &vec![0; length.into()]].concat();
        let map = |pairs: u8| {
            let pair = |key| [97, key, 106];
            let pairs_bytes = (0..pairs).flat_map(pair).collect::<Vec<_>>();
            [&[116, 0, 0, 0, pairs][..], &pairs_bytes].concat()
        };
        let small = (1_i64 << 59) - 1;
        let big = |value: i64| {
            let sign = u8::from(value < 0);
            [&[110, 8, sign][..], &value.unsigned_abs().to_le_bytes()].concat()
        };
        for (name, bytes, words) in [
            ("nil", vec![106], 0),
            ("an atom", vec![119, 1, 97], 0),
            ("a small integer", vec![98, 127, 255, 255, 255], 0),
            ("the greatest small integer", big(small), 0),
            ("a bignum", big(small + 1), 2),
            ("the least small integer", big(-small - 1), 0),
            ("a negative bignum", big(-small - 2), 2),
            (
                "a bignum of 9 bytes",
                vec![110, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                3,
            ),
            ("a float", vec![70, 63, 248, 0, 0, 0, 0, 0, 0], 2),
            ("an empty binary", binary(0), 2),
            ("a heap binary", binary(64), 10),
            ("a binary outside of the heap", binary(65), 25),
            ("bits", vec![77, 0, 0, 0, 1, 3, 32], 9),
            ("a string", vec![107, 0, 3, 1, 2, 3], 6),
            ("a list", vec![108, 0, 0, 0, 2, 106, 106, 106], 4),
            (
                "a list in a list",
                vec![108, 0, 0, 0, 1, 107, 0, 1, 1, 106],
                4,
            ),
            ("a tuple", vec![104, 3, 106, 106, 106], 4),
            ("a map", map(1), 6),
            ("the greatest flat map", map(32), 68),
            ("a tree", map(33), 132),
            ("a pid", [&[88, 119, 1, 97][..], &[0; 12]].concat(), 8),
        ] {
            assert_eq!(memory(&bytes), Ok(words * WORD), "{name}");
        }
    }

    /// A list of atoms: the numbers below `different`, then the last one again.
    fn atoms(different: usize, repeated: usize) -> Vec<u8> {
        let elements = u32::try_from(different + repeated).unwrap();
        let mut bytes = [&[108][..], &elements.to_be_bytes()].concat();
        for number in (0..different).chain(std::iter::repeat_n(different - 1, repeated)) {
            bytes.extend([119, 4]);
            bytes.extend(format!("{number:04x}").bytes());
        }
        bytes.push(106);
        bytes
    }

    #[test]
    fn limits_different_atoms_only() {
        assert!(memory(&atoms(MAX_VALUE_ATOMS, 0)).is_ok());
        assert!(memory(&atoms(MAX_VALUE_ATOMS, 10_000)).is_ok());
        let error = memory(&atoms(MAX_VALUE_ATOMS + 1, 0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Atoms);
        assert_eq!(error.offset(), 5 + 6 * MAX_VALUE_ATOMS);
    }

    #[test]
    fn counts_binaries_outside_of_the_heap() {
        let binary = |length: u8| [&[109, 0, 0, 0, length][..], &vec![0; length.into()]].concat();
        let pair = [&[131, 104, 2][..], &binary(64), &binary(65)].concat();
        assert_eq!(off_heap_bytes(&pair), 25 * WORD);
        assert_eq!(off_heap_bytes(&[131, 97, 1]), 0);
    }

    #[test]
    fn counts_the_node_of_a_pid_as_an_atom() {
        let number = u32::try_from(MAX_VALUE_ATOMS + 1).unwrap();
        let mut pids = [&[108][..], &number.to_be_bytes()].concat();
        for node in 0..number {
            pids.extend([88, 119, 4]);
            pids.extend(format!("{node:04x}").bytes());
            pids.extend([0; 12]);
        }
        pids.push(106);
        assert_eq!(memory(&pids).unwrap_err().kind(), ErrorKind::Atoms);
    }
}
