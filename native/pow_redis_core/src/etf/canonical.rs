//! The canonical form of terms.
//!
//! The canonical form of a term is the output of `:erlang.term_to_binary/1` on Erlang/OTP 26 and later, with
//! the pairs of maps sorted by the bytes of their keys, since their order differs between VMs. Two terms are
//! equal (`=:=`) if and only if their canonical forms are.

use super::head::Opaque;
use super::tag;
use super::{
    Atom, Cursor, Error, ErrorKind, Head, Integer, ListWriter, MAX_DEPTH, VERSION,
    term_after_version,
};

/// The encoding of atoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomEncoding {
    /// UTF-8, as in the canonical form.
    Utf8,
    /// Latin-1, except for atoms with characters that it lacks.
    Latin1,
}

/// Returns an external term in canonical form, but with atoms in the given encoding.
pub fn canonicalize(bytes: &[u8], atoms: AtomEncoding) -> Result<Vec<u8>, Error> {
    let mut cursor = term_after_version(bytes)?;
    let mut out = Vec::with_capacity(bytes.len());
    out.push(VERSION);
    write_canonical(&mut cursor, atoms, &mut out)?;
    cursor.end()?;
    Ok(out)
}

/// Reads one term and appends it in canonical form, but with atoms in the given encoding.
pub fn write_canonical(
    cursor: &mut Cursor<'_>,
    atoms: AtomEncoding,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    Writer { atoms, out }.term(cursor, MAX_DEPTH)
}

struct Writer<'o> {
    atoms: AtomEncoding,
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    fn term(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Error> {
        let start = *cursor;
        let head = Head::read(cursor)?;
        let below = || {
            depth
                .checked_sub(1)
                .ok_or_else(|| start.error(ErrorKind::Depth))
        };
        match head {
            Head::Atom(atom) => self.atom(atom),
            Head::Integer(integer) => self.integer(integer),
            Head::Float(float) => {
                self.out.push(tag::NEW_FLOAT);
                self.out.extend(float.to_be_bytes());
            }
            Head::Binary(bytes) => {
                self.out.push(tag::BINARY);
                self.length(bytes.len());
                self.out.extend(bytes);
            }
            Head::Bits(bytes, bits) => {
                self.out.push(tag::BIT_BINARY);
                self.length(bytes.len());
                self.out.push(bits);
                self.bits(bytes, bits);
            }
            Head::Nil => self.out.push(tag::NIL),
            Head::String(_) | Head::List(_) => self.list(head, cursor, below()?)?,
            Head::Tuple(elements) => {
                match u8::try_from(elements) {
                    Ok(small) => self.out.extend([tag::SMALL_TUPLE, small]),
                    Err(_) => {
                        self.out.push(tag::LARGE_TUPLE);
                        self.out.extend(elements.to_be_bytes());
                    }
                }
                let below = below()?;
                for _ in 0..elements {
                    self.term(cursor, below)?;
                }
            }
            Head::Map(pairs) => self.map(pairs, start, cursor, below()?)?,
            Head::Opaque(opaque) => self.opaque(opaque),
        }
        Ok(())
    }

    fn atom(&mut self, atom: Atom<'_>) {
        let text = atom.text();
        let latin1 =
            || -> Option<Vec<u8>> { text.chars().map(|char| u8::try_from(char).ok()).collect() };
        match self.atoms {
            AtomEncoding::Latin1 => match latin1() {
                Some(bytes) => {
                    self.out.push(tag::ATOM);
                    self.out.extend(short_length(bytes.len()).to_be_bytes());
                    self.out.extend(bytes);
                }
                None => self.utf8_atom(&text),
            },
            AtomEncoding::Utf8 => self.utf8_atom(&text),
        }
    }

    fn utf8_atom(&mut self, text: &str) {
        match u8::try_from(text.len()) {
            Ok(length) => self.out.extend([tag::SMALL_ATOM_UTF8, length]),
            Err(_) => {
                self.out.push(tag::ATOM_UTF8);
                self.out.extend(short_length(text.len()).to_be_bytes());
            }
        }
        self.out.extend(text.as_bytes());
    }

    fn integer(&mut self, integer: Integer<'_>) {
        match integer {
            Integer::Small(value) => {
                if let Ok(byte) = u8::try_from(value) {
                    self.out.extend([tag::SMALL_INTEGER, byte]);
                } else if let Ok(value) = i32::try_from(value) {
                    self.out.push(tag::INTEGER);
                    self.out.extend(value.to_be_bytes());
                } else {
                    let bytes = value.unsigned_abs().to_le_bytes();
                    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
                    let magnitude = bytes.get(..8 - zeros).unwrap_or(&bytes);
                    self.big(value < 0, magnitude);
                }
            }
            Integer::Big {
                negative,
                magnitude,
            } => self.big(negative, magnitude),
        }
    }

    fn big(&mut self, negative: bool, magnitude: &[u8]) {
        match u8::try_from(magnitude.len()) {
            Ok(length) => self.out.extend([tag::SMALL_BIG, length]),
            Err(_) => {
                self.out.push(tag::LARGE_BIG);
                self.length(magnitude.len());
            }
        }
        self.out.push(u8::from(negative));
        self.out.extend(magnitude);
    }

    /// Clears the unused bits of the last byte.
    fn bits(&mut self, bytes: &[u8], bits: u8) {
        if let Some((last, rest)) = bytes.split_last() {
            self.out.extend(rest);
            self.out.push(last & !(u8::MAX >> bits));
        }
    }

    /// Merges a list whose tail is a list into one.
    fn list(&mut self, head: Head<'_>, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Error> {
        let mut list = ListWriter::begin(self.out);
        let mut head = head;
        loop {
            match head {
                Head::String(bytes) => {
                    for &byte in bytes {
                        list.count_element();
                        self.integer(Integer::Small(byte.into()));
                    }
                    list.end(self.out);
                    return Ok(());
                }
                Head::List(elements) => {
                    for _ in 0..elements {
                        list.count_element();
                        self.term(cursor, depth)?;
                    }
                }
                _ => {
                    list.end(self.out);
                    return Ok(());
                }
            }
            let tail = *cursor;
            head = Head::read(cursor)?;
            if !matches!(head, Head::Nil | Head::String(_) | Head::List(_)) {
                *cursor = tail;
                list.begin_tail(self.out);
                return self.term(cursor, depth);
            }
        }
    }

    fn map(
        &mut self,
        pairs: u32,
        start: Cursor<'_>,
        cursor: &mut Cursor<'_>,
        depth: usize,
    ) -> Result<(), Error> {
        let mut sorted = Vec::new();
        for _ in 0..pairs {
            let key = self.detached(cursor, depth)?;
            let value = self.detached(cursor, depth)?;
            sorted.push((key, value));
        }
        sorted.sort_unstable();
        if sorted
            .iter()
            .zip(sorted.iter().skip(1))
            .any(|((a, _), (b, _))| a == b)
        {
            return Err(start.error(ErrorKind::MapKey));
        }
        self.out.push(tag::MAP);
        self.out.extend(pairs.to_be_bytes());
        for (key, value) in sorted {
            self.out.extend(key);
            self.out.extend(value);
        }
        Ok(())
    }

    /// Writes a term to a buffer of its own.
    fn detached(&self, cursor: &mut Cursor<'_>, depth: usize) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        Writer {
            atoms: self.atoms,
            out: &mut out,
        }
        .term(cursor, depth)?;
        Ok(out)
    }

    fn opaque(&mut self, opaque: Opaque<'_>) {
        self.out.push(opaque.tag);
        if let Some(words) = opaque.words {
            self.out.extend(words.to_be_bytes());
        }
        self.atom(opaque.node);
        self.out.extend(opaque.id);
    }

    fn length(&mut self, length: usize) {
        // The length was read from at most four bytes.
        self.out
            .extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// The length of an atom: at most 255 characters of at most four bytes.
fn short_length(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf8(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        write_canonical(&mut Cursor::new(bytes), AtomEncoding::Utf8, &mut out)?;
        Ok(out)
    }

    #[test]
    fn canonicalizes_alternative_encodings() {
        for (name, other, expected) in [
            ("atom 100", &[100, 0, 1, 97][..], &[119, 1, 97][..]),
            ("atom 115", &[115, 1, 233], &[119, 2, 195, 169]),
            ("atom 118", &[118, 0, 1, 97], &[119, 1, 97]),
            ("small integer", &[98, 0, 0, 0, 255], &[97, 255]),
            ("integer", &[110, 2, 0, 0, 1], &[98, 0, 0, 1, 0]),
            ("negative", &[110, 1, 1, 1], &[98, 255, 255, 255, 255]),
            (
                "long",
                &[111, 0, 0, 0, 5, 0, 0, 0, 0, 128, 0],
                &[110, 4, 0, 0, 0, 0, 128],
            ),
            ("large tuple", &[105, 0, 0, 0, 1, 106], &[104, 1, 106]),
            (
                "string",
                &[108, 0, 0, 0, 2, 97, 1, 98, 0, 0, 0, 2, 106],
                &[107, 0, 2, 1, 2],
            ),
            (
                "nested tail",
                &[108, 0, 0, 0, 1, 97, 1, 107, 0, 1, 2],
                &[107, 0, 2, 1, 2],
            ),
            (
                "nested tail",
                &[108, 0, 0, 0, 1, 106, 108, 0, 0, 0, 1, 106, 106],
                &[108, 0, 0, 0, 2, 106, 106, 106],
            ),
            ("no elements", &[108, 0, 0, 0, 0, 106], &[106]),
            ("no elements, a tail", &[108, 0, 0, 0, 0, 97, 7], &[97, 7]),
            ("empty string", &[107, 0, 0], &[106]),
            (
                "improper",
                &[108, 0, 0, 0, 2, 97, 1, 97, 2, 97, 3],
                &[108, 0, 0, 0, 2, 97, 1, 97, 2, 97, 3],
            ),
            (
                "map",
                &[116, 0, 0, 0, 2, 97, 2, 106, 97, 1, 106],
                &[116, 0, 0, 0, 2, 97, 1, 106, 97, 2, 106],
            ),
            ("bits", &[77, 0, 0, 0, 1, 3, 63], &[77, 0, 0, 0, 1, 3, 32]),
            (
                "whole bits",
                &[77, 0, 0, 0, 1, 8, 63],
                &[109, 0, 0, 0, 1, 63],
            ),
            (
                "port",
                &[89, 100, 0, 1, 97, 0, 0, 0, 1, 0, 0, 0, 2],
                &[89, 119, 1, 97, 0, 0, 0, 1, 0, 0, 0, 2],
            ),
        ] {
            let written = utf8(other).unwrap();
            assert_eq!(written, expected, "{name}");
            assert_eq!(utf8(&written).unwrap(), written, "{name}, again");
        }
    }

    #[test]
    fn encodes_atoms_in_latin1_if_it_has_their_characters() {
        let latin1 = |bytes: &[u8]| canonicalize(bytes, AtomEncoding::Latin1).unwrap();
        assert_eq!(latin1(&[131, 119, 2, 195, 169]), [131, 100, 0, 1, 233]);
        let japanese = [131, 119, 3, 230, 151, 165];
        assert_eq!(latin1(&japanese), japanese);
    }

    #[test]
    fn does_not_encode_a_long_list_of_bytes_as_a_string() {
        let mut list = vec![108, 0, 1, 0, 0];
        list.extend([97, 1].repeat(65_536));
        list.push(106);
        assert_eq!(utf8(&list).unwrap(), list);
    }

    #[test]
    fn rejects_duplicate_map_keys() {
        let error = utf8(&[116, 0, 0, 0, 2, 100, 0, 1, 97, 106, 119, 1, 97, 106]).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::MapKey, 0));
    }
}
