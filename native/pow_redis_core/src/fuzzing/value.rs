//! Properties of external terms.

use super::term::Term;
use crate::etf::{AtomEncoding, Error, ErrorKind, canonicalize, check, skip, term_after_version};

/// The check of a value agrees with the reference on which bytes are a term.
pub fn value(bytes: &[u8]) {
    let term = Term::decode(bytes);
    match check(bytes) {
        Ok(()) => {
            assert!(term.is_some(), "accepted what is no term");
            let mut cursor = term_after_version(bytes).unwrap();
            skip(&mut cursor).unwrap();
            assert_eq!(cursor.offset(), bytes.len());
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
            assert_eq!(to_utf8(&canonical), canonical);
            let legacy = canonicalize(bytes, AtomEncoding::Latin1).unwrap();
            assert_eq!(to_utf8(&legacy), canonical);
            let again = canonicalize(&legacy, AtomEncoding::Latin1).unwrap();
            assert_eq!(again, legacy);
        }
        Err(error) => {
            assert_is_within(&error, bytes);
            assert!(expected.is_none() || is_limit(&error), "{error}");
        }
    }
}

fn to_utf8(bytes: &[u8]) -> Vec<u8> {
    canonicalize(bytes, AtomEncoding::Utf8).unwrap()
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
