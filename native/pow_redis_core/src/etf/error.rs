//! Errors in the external term format.

use std::fmt;

/// An error in the external term format, and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    offset: usize,
    kind: ErrorKind,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes end inside a term.
    End,
    /// An unexpected byte.
    Expected {
        /// What was expected.
        expected: &'static str,
        /// The byte found.
        found: u8,
    },
    /// Bytes after the term.
    Trailing,
    /// Terms are nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    Depth,
    /// A function, which cannot be stored.
    Function,
    /// A compressed term, which is not supported.
    Compressed,
    /// An atom that is longer than 255 characters or not UTF-8.
    Atom,
    /// A float that is not a finite number.
    Float,
    /// A bit string whose last byte uses none or more than eight of its bits.
    Bits,
    /// A map with duplicate keys.
    MapKey,
    /// A reference of no or more than five words.
    Reference,
    /// A value of more than [`MAX_VALUE_LEN`](super::MAX_VALUE_LEN) bytes.
    Length,
    /// A value that takes more than [`MAX_VALUE_MEMORY`](super::MAX_VALUE_MEMORY) in the VM.
    Memory,
    /// A value with more than [`MAX_VALUE_ATOMS`](super::MAX_VALUE_ATOMS) different atoms.
    Atoms,
}

impl Error {
    pub(super) const fn new(offset: usize, kind: ErrorKind) -> Self {
        Self { offset, kind }
    }

    /// The offset at which reading failed.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The kind of error.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::End => f.write_str("unexpected end"),
            ErrorKind::Expected { expected, found } => {
                write!(f, "expected {expected}, found {found}")
            }
            ErrorKind::Trailing => f.write_str("trailing bytes"),
            ErrorKind::Depth => write!(f, "nested more than {} levels deep", super::MAX_DEPTH),
            ErrorKind::Function => f.write_str("functions cannot be stored"),
            ErrorKind::Compressed => f.write_str("compressed terms are not supported"),
            ErrorKind::Atom => f.write_str("expected an atom of at most 255 characters"),
            ErrorKind::Float => f.write_str("expected a finite float"),
            ErrorKind::Bits => f.write_str("expected 1 to 8 bits in the last byte of a bit string"),
            ErrorKind::MapKey => f.write_str("duplicate map keys"),
            ErrorKind::Reference => f.write_str("expected a reference of 1 to 5 words"),
            ErrorKind::Length => write!(f, "longer than {} bytes", super::MAX_VALUE_LEN),
            ErrorKind::Memory => write!(f, "takes more than {} bytes", super::MAX_VALUE_MEMORY),
            ErrorKind::Atoms => write!(f, "more than {} different atoms", super::MAX_VALUE_ATOMS),
        }?;
        write!(f, " at byte {}", self.offset)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_the_problem_and_its_offset() {
        let kind = ErrorKind::Expected {
            expected: "tag 131",
            found: 0,
        };
        assert_eq!(
            Error::new(0, kind).to_string(),
            "expected tag 131, found 0 at byte 0"
        );
        assert_eq!(
            Error::new(7, ErrorKind::End).to_string(),
            "unexpected end at byte 7"
        );
    }
}
