//! Validating a value without building it.

use super::{Cursor, Error, ErrorKind, MAX_VALUE_MEMORY, term_after_version, term_memory};

/// The most bytes of a value: 64 MB. Sessions have a few kilobytes.
pub const MAX_VALUE_LEN: usize = 64 << 20;

/// Checks that an external term is valid: well-formed, without functions, compressed terms and trailing
/// bytes, nested at most [`MAX_DEPTH`](super::MAX_DEPTH) levels deep, and not too large.
///
/// Duplicate map keys are not detected: the VM rejects them when it builds the term.
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    measure(bytes).map(drop)
}

/// Checks an external term like [`check`]. Returns how much memory it takes in the VM, in bytes.
pub fn measure(bytes: &[u8]) -> Result<usize, Error> {
    if bytes.len() > MAX_VALUE_LEN {
        return Err(Cursor::new(bytes).error(ErrorKind::Length));
    }
    let mut cursor = term_after_version(bytes)?;
    let start = cursor;
    let memory = term_memory(&mut cursor)?;
    cursor.end()?;
    if memory > MAX_VALUE_MEMORY {
        return Err(start.error(ErrorKind::Memory));
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::super::MAX_DEPTH;
    use super::*;

    #[test]
    fn accepts_a_session_and_rejects_invalid_terms() {
        let session = [
            131, 104, 2, 109, 0, 0, 0, 2, 105, 100, 116, 0, 0, 0, 1, 119, 1, 97, 106,
        ];
        assert_eq!(check(&session), Ok(()));
        assert_eq!(measure(&session), Ok(8 * (3 + 3 + 6)));
        for (bytes, kind, offset) in [
            (&[][..], ErrorKind::End, 0),
            (&[131], ErrorKind::End, 1),
            (&[131, 106, 0], ErrorKind::Trailing, 2),
            (&[131, 80, 0, 0, 0, 2, 120], ErrorKind::Compressed, 1),
            (&[131, 104, 1, 112, 0, 0, 0, 0], ErrorKind::Function, 3),
        ] {
            let error = check(bytes).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (kind, offset), "{bytes:?}");
        }
        let mut deep = vec![131];
        deep.extend([104, 1].repeat(MAX_DEPTH + 1));
        deep.push(106);
        assert_eq!(check(&deep).unwrap_err().kind(), ErrorKind::Depth);
    }

    fn kind_of(bytes: &[u8]) -> Option<ErrorKind> {
        check(bytes).err().map(|error| error.kind())
    }

    /// A binary whose external term has this length.
    fn binary(length: usize) -> Vec<u8> {
        let size = u32::try_from(length - 6).unwrap();
        let mut bytes = [&[131, 109][..], &size.to_be_bytes()].concat();
        bytes.resize(length, 0);
        bytes
    }

    /// A list of this many empty lists.
    fn empty_lists(number: usize) -> Vec<u8> {
        let elements = u32::try_from(number).unwrap();
        let mut bytes = [&[131, 108][..], &elements.to_be_bytes()].concat();
        bytes.resize(6 + number + 1, 106);
        bytes
    }

    #[test]
    fn limits_the_length_of_a_value() {
        assert_eq!(kind_of(&binary(MAX_VALUE_LEN)), None);
        assert_eq!(kind_of(&binary(MAX_VALUE_LEN + 1)), Some(ErrorKind::Length));
    }

    #[test]
    fn limits_what_a_value_takes_in_the_vm() {
        let most = MAX_VALUE_MEMORY / 16;
        assert_eq!(kind_of(&empty_lists(most)), None);
        assert_eq!(kind_of(&empty_lists(most + 1)), Some(ErrorKind::Memory));
    }
}
