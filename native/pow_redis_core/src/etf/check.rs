//! Is a value fit to become a term?

use super::{Error, skip, term_after_version};

/// Checks an external term without building it: well-formed, no functions, no compressed parts,
/// nested at most [`MAX_DEPTH`](super::MAX_DEPTH) deep, nothing behind it.
///
/// That each key of a map is there once is left to the VM, which checks it when it builds the term.
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
    fn takes_a_session_and_refuses_the_rest() {
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
