//! Validating a term without building it.

use super::{Error, skip, term_after_version};

/// Checks that an external term is valid: well-formed, without functions, compressed terms and trailing
/// bytes, and nested at most [`MAX_DEPTH`](super::MAX_DEPTH) levels deep.
///
/// Duplicate map keys are not detected: the VM rejects them when it builds the term.
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    let mut cursor = term_after_version(bytes)?;
    skip(&mut cursor)?;
    cursor.end()
}

#[cfg(test)]
mod tests {
    use super::super::{ErrorKind, MAX_DEPTH};
    use super::*;

    #[test]
    fn accepts_a_session_and_rejects_invalid_terms() {
        let session = [
            131, 104, 2, 109, 0, 0, 0, 2, 105, 100, 116, 0, 0, 0, 1, 119, 1, 97, 106,
        ];
        assert_eq!(check(&session), Ok(()));
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
}
