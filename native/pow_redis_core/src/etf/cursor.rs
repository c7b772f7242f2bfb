//! A bounds-checked reader of bytes.
//!
//! All of [`etf`](super) reads through it.

use super::{Error, ErrorKind};

/// A position in a slice. A read beyond the end is an error.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            offset: 0,
        }
    }

    /// The number of bytes read.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The bytes not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.error(ErrorKind::End))?;
        self.rest = rest;
        self.offset += length;
        Ok(taken)
    }

    /// The bytes between `self` and `later`, a copy of this cursor that has advanced.
    pub fn until(&self, later: &Self) -> &'a [u8] {
        let length = later.offset.saturating_sub(self.offset);
        self.rest.get(..length).unwrap_or(self.rest)
    }

    /// An unsigned byte.
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.error(ErrorKind::End))?;
        self.rest = rest;
        self.offset += N;
        Ok(*array)
    }

    /// A length of four bytes, and as many bytes.
    pub fn take_u32(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Fails if bytes are left.
    pub fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(ErrorKind::Trailing))
        }
    }

    /// An error at this position.
    pub const fn error(&self, kind: ErrorKind) -> Error {
        Error::new(self.offset, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_to_the_end_and_no_further() {
        let mut cursor = Cursor::new(&[1, 0, 2, 0, 0, 0, 3, 9]);
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.u16(), Ok(2));
        let before = cursor;
        assert_eq!(cursor.u32(), Ok(3));
        assert_eq!(before.until(&cursor), [0, 0, 0, 3]);
        assert_eq!(cursor.end(), Err(Error::new(7, ErrorKind::Trailing)));
        assert_eq!(cursor.take(2), Err(Error::new(7, ErrorKind::End)));
        assert_eq!(cursor.take(1), Ok(&[9][..]));
        assert_eq!(cursor.end(), Ok(()));
        assert_eq!(cursor.u8(), Err(Error::new(8, ErrorKind::End)));
    }

    #[test]
    fn rejects_a_length_beyond_the_end() {
        let mut cursor = Cursor::new(&[255, 255, 255, 255, 1]);
        assert_eq!(cursor.take_u32(), Err(Error::new(4, ErrorKind::End)));
    }
}
