//! The head of a term: everything but the terms that it contains.

use std::borrow::Cow;

use super::tag;
use super::{Cursor, Error, ErrorKind};

/// The most characters of an atom.
const MAX_ATOM_CHARACTERS: usize = 255;
/// The most 32-bit words of a reference.
const MAX_REFERENCE_WORDS: u16 = 5;

/// The head of a term. The elements of a list, tuple or map follow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head<'a> {
    /// An atom, in either encoding.
    Atom(Atom<'a>),
    /// An integer of any size.
    Integer(Integer<'a>),
    /// A finite float.
    Float(f64),
    /// A binary.
    Binary(&'a [u8]),
    /// A bit string: its bytes, and the number of bits used in the last one.
    Bits(&'a [u8], u8),
    /// A proper list of small integers, one per byte.
    String(&'a [u8]),
    /// A list: this many elements follow, then the tail.
    List(u32),
    /// The empty list.
    Nil,
    /// A tuple: this many elements follow.
    Tuple(u32),
    /// A map: this many pairs follow.
    Map(u32),
    /// A pid, port or reference.
    Opaque(Opaque<'a>),
}

/// The text of an atom. Two atoms are equal if their characters are, in any encoding.
#[derive(Clone, Copy, Debug)]
pub enum Atom<'a> {
    /// In Latin-1.
    Latin1(&'a [u8]),
    /// In UTF-8.
    Utf8(&'a str),
}

impl<'a> Atom<'a> {
    /// The text in UTF-8.
    pub fn text(&self) -> Cow<'a, str> {
        match *self {
            Atom::Latin1(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if text.is_ascii() => Cow::Borrowed(text),
                _ => bytes.iter().copied().map(char::from).collect(),
            },
            Atom::Utf8(text) => Cow::Borrowed(text),
        }
    }
}

impl PartialEq for Atom<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// An integer. Each number has one representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer<'a> {
    /// Fits in 64 bits.
    Small(i64),
    /// Does not fit in 64 bits.
    Big {
        /// Whether the integer is below zero.
        negative: bool,
        /// The absolute value: little-endian, without zeros at the end.
        magnitude: &'a [u8],
    },
}

impl<'a> Integer<'a> {
    fn from_magnitude(negative: bool, bytes: &'a [u8]) -> Self {
        let length = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |i| i + 1);
        let magnitude = bytes.get(..length).unwrap_or(bytes);
        let mut wide = [0; 16];
        let small = match wide.get_mut(..length).filter(|_| length <= 8) {
            Some(low) => {
                low.copy_from_slice(magnitude);
                let value = i128::from_le_bytes(wide);
                i64::try_from(if negative { -value } else { value }).ok()
            }
            None => None,
        };
        small.map_or(
            Self::Big {
                negative,
                magnitude,
            },
            Self::Small,
        )
    }
}

/// A pid, port or reference: the name of its node, and bytes that are not interpreted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opaque<'a> {
    pub(super) tag: u8,
    /// The number of words, in references that have it.
    pub(super) words: Option<u16>,
    pub(super) node: Atom<'a>,
    pub(super) id: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads the head of a term.
    pub fn read(cursor: &mut Cursor<'a>) -> Result<Self, Error> {
        let start = *cursor;
        let fail = |kind| Err(start.error(kind));
        let head = match cursor.u8()? {
            tag::SMALL_INTEGER => Head::Integer(Integer::Small(cursor.u8()?.into())),
            tag::INTEGER => {
                let value = cursor.array().map(i32::from_be_bytes)?;
                Head::Integer(Integer::Small(value.into()))
            }
            tag::SMALL_BIG => {
                let length = usize::from(cursor.u8()?);
                big(cursor, length)?
            }
            tag::LARGE_BIG => {
                let length = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
                big(cursor, length)?
            }
            tag::NEW_FLOAT => {
                let value = cursor.array().map(f64::from_be_bytes)?;
                return finite(value).map_or_else(|| fail(ErrorKind::Float), Ok);
            }
            tag::FLOAT => {
                let text: [u8; 31] = cursor.array()?;
                let value = std::str::from_utf8(&text)
                    .ok()
                    .and_then(|text| text.trim_end_matches('\0').trim_start().parse().ok());
                return value
                    .and_then(finite)
                    .map_or_else(|| fail(ErrorKind::Float), Ok);
            }
            tag @ (tag::ATOM | tag::SMALL_ATOM | tag::ATOM_UTF8 | tag::SMALL_ATOM_UTF8) => {
                Head::Atom(atom_text(cursor, tag)?)
            }
            tag::BINARY => Head::Binary(cursor.take_u32()?),
            tag::BIT_BINARY => {
                let length = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
                let bits = cursor.u8()?;
                let bytes = cursor.take(length)?;
                match (bytes, bits) {
                    ([], 0) => Head::Binary(bytes),
                    ([_, ..], 8) => Head::Binary(bytes),
                    ([_, ..], 1..8) => Head::Bits(bytes, bits),
                    _ => return fail(ErrorKind::Bits),
                }
            }
            tag::STRING => {
                let length = usize::from(cursor.u16()?);
                Head::String(cursor.take(length)?)
            }
            tag::LIST => Head::List(cursor.u32()?),
            tag::NIL => Head::Nil,
            tag::SMALL_TUPLE => Head::Tuple(cursor.u8()?.into()),
            tag::LARGE_TUPLE => Head::Tuple(cursor.u32()?),
            tag::MAP => Head::Map(cursor.u32()?),
            tag::NEW_PID => opaque(cursor, tag::NEW_PID, 12)?,
            tag::PID => opaque(cursor, tag::PID, 9)?,
            tag::NEW_PORT => opaque(cursor, tag::NEW_PORT, 8)?,
            tag::PORT => opaque(cursor, tag::PORT, 5)?,
            tag::V4_PORT => opaque(cursor, tag::V4_PORT, 12)?,
            tag::REFERENCE => opaque(cursor, tag::REFERENCE, 5)?,
            tag::NEW_REFERENCE => reference(cursor, tag::NEW_REFERENCE, 1)?,
            tag::NEWER_REFERENCE => reference(cursor, tag::NEWER_REFERENCE, 4)?,
            tag::FUN | tag::NEW_FUN | tag::EXPORT => return fail(ErrorKind::Function),
            tag::COMPRESSED => return fail(ErrorKind::Compressed),
            found => {
                return fail(ErrorKind::Expected {
                    expected: "the tag of a term",
                    found,
                });
            }
        };
        Ok(head)
    }
}

fn finite<'a>(value: f64) -> Option<Head<'a>> {
    value.is_finite().then_some(Head::Float(value))
}

fn big<'a>(cursor: &mut Cursor<'a>, length: usize) -> Result<Head<'a>, Error> {
    let negative = cursor.u8()? != 0;
    let integer = Integer::from_magnitude(negative, cursor.take(length)?);
    Ok(Head::Integer(integer))
}

fn atom_text<'a>(cursor: &mut Cursor<'a>, tag: u8) -> Result<Atom<'a>, Error> {
    let start = *cursor;
    let length = match tag {
        tag::SMALL_ATOM | tag::SMALL_ATOM_UTF8 => usize::from(cursor.u8()?),
        _ => usize::from(cursor.u16()?),
    };
    let bytes = cursor.take(length)?;
    let atom = match tag {
        tag::ATOM | tag::SMALL_ATOM => Some(Atom::Latin1(bytes)),
        _ => std::str::from_utf8(bytes).ok().map(Atom::Utf8),
    };
    let characters = |atom: &Atom<'_>| match atom {
        Atom::Latin1(bytes) => bytes.len(),
        Atom::Utf8(text) => text.chars().count(),
    };
    atom.filter(|atom| length <= MAX_ATOM_CHARACTERS || characters(atom) <= MAX_ATOM_CHARACTERS)
        .ok_or_else(|| start.error(ErrorKind::Atom))
}

fn node<'a>(cursor: &mut Cursor<'a>) -> Result<Atom<'a>, Error> {
    let start = *cursor;
    match cursor.u8()? {
        tag @ (tag::ATOM | tag::SMALL_ATOM | tag::ATOM_UTF8 | tag::SMALL_ATOM_UTF8) => {
            atom_text(cursor, tag)
        }
        found => Err(start.error(ErrorKind::Expected {
            expected: "an atom",
            found,
        })),
    }
}

fn opaque<'a>(cursor: &mut Cursor<'a>, tag: u8, length: usize) -> Result<Head<'a>, Error> {
    Ok(Head::Opaque(Opaque {
        tag,
        words: None,
        node: node(cursor)?,
        id: cursor.take(length)?,
    }))
}

fn reference<'a>(cursor: &mut Cursor<'a>, tag: u8, creation: usize) -> Result<Head<'a>, Error> {
    let start = *cursor;
    let words = cursor.u16()?;
    if !(1..=MAX_REFERENCE_WORDS).contains(&words) {
        return Err(start.error(ErrorKind::Reference));
    }
    Ok(Head::Opaque(Opaque {
        tag,
        words: Some(words),
        node: node(cursor)?,
        id: cursor.take(creation + 4 * usize::from(words))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[u8]) -> Result<Head<'_>, Error> {
        Head::read(&mut Cursor::new(bytes))
    }

    #[test]
    fn integers_of_all_encodings_are_equal() {
        let one = Head::Integer(Integer::Small(1));
        for bytes in [
            &[97, 1][..],
            &[98, 0, 0, 0, 1],
            &[110, 3, 0, 1, 0, 0],
            &[111, 0, 0, 0, 1, 0, 1],
        ] {
            assert_eq!(head(bytes), Ok(one), "{bytes:?}");
        }
        let smallest = [110, 8, 1, 0, 0, 0, 0, 0, 0, 0, 128];
        assert_eq!(head(&smallest), Ok(Head::Integer(Integer::Small(i64::MIN))));
        let above = [110, 8, 0, 0, 0, 0, 0, 0, 0, 0, 128];
        assert!(
            matches!(head(&above), Ok(Head::Integer(Integer::Big { negative: false, magnitude })) if magnitude.len() == 8)
        );
        assert_eq!(head(&[110, 1, 1, 0]), Ok(Head::Integer(Integer::Small(0))));
    }

    #[test]
    fn atoms_of_all_encodings_are_equal() {
        let latin1 = head(&[100, 0, 1, 233]);
        assert_eq!(latin1, head(&[119, 2, 195, 169]));
        assert_eq!(latin1, head(&[115, 1, 233]));
        assert_eq!(latin1, head(&[118, 0, 2, 195, 169]));
        assert_ne!(latin1, head(&[119, 1, 101]));
        // Two characters in Latin-1, one in UTF-8.
        assert_eq!(
            head(&[100, 0, 2, 195, 169]),
            head(&[119, 4, 195, 131, 194, 169])
        );
        assert_ne!(head(&[100, 0, 2, 195, 169]), latin1);
    }

    #[test]
    fn reads_both_encodings_of_floats() {
        let mut text = [0; 32];
        text[0] = 99;
        text[1..27].copy_from_slice(b"1.50000000000000000000e+00");
        assert_eq!(head(&text), Ok(Head::Float(1.5)));
        assert_eq!(head(&[70, 63, 248, 0, 0, 0, 0, 0, 0]), Ok(Head::Float(1.5)));
        let infinite = head(&[70, 127, 240, 0, 0, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(infinite.kind(), ErrorKind::Float);
    }

    #[test]
    fn rejects_invalid_terms() {
        for (bytes, kind, offset) in [
            (&[113, 119, 1, 97][..], ErrorKind::Function, 0),
            (&[80, 0, 0, 0, 1], ErrorKind::Compressed, 0),
            (&[119, 1, 255], ErrorKind::Atom, 1),
            (&[118, 1, 0], ErrorKind::End, 3),
            (&[77, 0, 0, 0, 1, 9, 0], ErrorKind::Bits, 0),
            (&[90, 0, 6, 119, 1, 97], ErrorKind::Reference, 1),
            (&[109, 255, 255, 255, 255], ErrorKind::End, 5),
        ] {
            let error = head(bytes).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (kind, offset), "{bytes:?}");
        }
        let mut long = vec![100, 1, 0];
        long.extend([b'a'; 256]);
        assert_eq!(head(&long).unwrap_err().kind(), ErrorKind::Atom);
    }
}
