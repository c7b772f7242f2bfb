//! Properties of external terms.

use super::term::Term;
use crate::etf::{AtomEncoding, Error, ErrorKind, canonicalize, check, skip, term_after_version};

/// The check of a value agrees with the reference on which bytes are a term.
pub fn value(bytes: &[u8]) {
    let term = Term::decode(bytes);
    match check(bytes) {
        Ok(()) => {
            assert!(term.is_some(), "accepted what is no term");
            assert_eq!(end_of_term(bytes), Ok(bytes.len()));
        }
        Err(error) => {
            assert_is_within(&error, bytes);
            assert!(term.is_none() || is_limit(&error), "{error}: {term:?}");
        }
    }
}

/// The canonical form is the one of the reference. Converting it again, also by way of the legacy form,
/// changes nothing.
pub fn canonical_form(bytes: &[u8]) {
    let expected = Term::decode(bytes).and_then(|term| term.encode());
    match canonicalize(bytes, AtomEncoding::Utf8) {
        Ok(canonical) => {
            assert_eq!(Some(&canonical), expected.as_ref());
            assert_eq!(check(&canonical), Ok(()));
            let to_utf8 = |bytes: Vec<u8>| canonicalize(&bytes, AtomEncoding::Utf8);
            let to_latin1 = |bytes: Vec<u8>| canonicalize(&bytes, AtomEncoding::Latin1);
            let legacy = to_latin1(bytes.to_vec());
            assert_eq!(legacy.clone().and_then(to_latin1), legacy);
            assert_eq!(legacy.and_then(to_utf8).as_ref(), Ok(&canonical));
            assert_eq!(to_utf8(canonical.clone()), Ok(canonical));
        }
        Err(error) => {
            assert_is_within(&error, bytes);
            assert!(expected.is_none() || is_limit(&error), "{error}");
        }
    }
}

/// How many bytes the term takes.
fn end_of_term(bytes: &[u8]) -> Result<usize, Error> {
    let mut cursor = term_after_version(bytes)?;
    skip(&mut cursor)?;
    Ok(cursor.offset())
}

fn assert_is_within(error: &Error, bytes: &[u8]) {
    assert!(error.offset() <= bytes.len(), "{error}");
    assert!(!error.to_string().is_empty());
}

/// Whether the bytes may well be a term, but one beyond a limit.
fn is_limit(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::End
            | ErrorKind::Expected { .. }
            | ErrorKind::Trailing
            | ErrorKind::Function
            | ErrorKind::Compressed
            | ErrorKind::Atom
            | ErrorKind::Float
            | ErrorKind::Bits
            | ErrorKind::MapKey
            | ErrorKind::Reference
    )
}
