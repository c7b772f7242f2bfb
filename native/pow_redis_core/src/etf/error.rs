//! Why bytes are not a term that we take.

use std::fmt;

/// What is wrong, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    offset: usize,
    kind: ErrorKind,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes end inside a term.
    End,
    /// Another byte was expected.
    Expected {
        /// What was expected.
        expected: &'static str,
        /// The byte that was found.
        found: u8,
    },
    /// Bytes follow the term.
    Trailing,
    /// Terms are nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    Depth,
    /// A function.
    Function,
    /// A compressed term.
    Compressed,
    /// An atom that is longer than 255 characters or not UTF-8.
    Atom,
    /// A float that is not a finite number.
    Float,
    /// A bit string whose last byte has no or more than eight bits.
    Bits,
    /// A map with two equal keys.
    MapKey,
    /// A reference without or with more than five words.
    Reference,
}

impl Error {
    pub(super) const fn new(offset: usize, kind: ErrorKind) -> Self {
        Self { offset, kind }
    }

    /// The byte at which reading stopped.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong there.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::End => f.write_str("expected more bytes, found the end"),
            ErrorKind::Expected { expected, found } => {
                write!(f, "expected {expected}, found {found}")
            }
            ErrorKind::Trailing => f.write_str("expected the end, found more bytes"),
            ErrorKind::Depth => write!(f, "nested deeper than {} terms", super::MAX_DEPTH),
            ErrorKind::Function => f.write_str("functions can't be stored"),
            ErrorKind::Compressed => f.write_str("compressed terms are not read"),
            ErrorKind::Atom => f.write_str("expected an atom of at most 255 characters in UTF-8"),
            ErrorKind::Float => f.write_str("expected a finite float"),
            ErrorKind::Bits => f.write_str("expected 1 to 8 bits in the last byte"),
            ErrorKind::MapKey => f.write_str("expected each key of a map once"),
            ErrorKind::Reference => f.write_str("expected a reference of 1 to 5 words"),
        }?;
        write!(f, " at byte {}", self.offset)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_and_where() {
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
            "expected more bytes, found the end at byte 7"
        );
    }
}
