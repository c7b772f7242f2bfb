//! Skipping terms.

use super::{Cursor, Error, ErrorKind, Head, VERSION};

/// How deep terms may be nested. Pow's values are nested about ten levels deep; the bound keeps the stack of
/// recursive functions small.
pub const MAX_DEPTH: usize = 256;

/// Advances the cursor past one term.
pub fn skip(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    skip_at(cursor, MAX_DEPTH)
}

fn skip_at(cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Error> {
    let start = *cursor;
    let terms = match Head::read(cursor)? {
        Head::List(elements) => u64::from(elements) + 1,
        Head::Tuple(elements) => u64::from(elements),
        Head::Map(pairs) => 2 * u64::from(pairs),
        _ => return Ok(()),
    };
    let below = depth
        .checked_sub(1)
        .ok_or_else(|| start.error(ErrorKind::Depth))?;
    for _ in 0..terms {
        skip_at(cursor, below)?;
    }
    Ok(())
}

/// A cursor at the term that follows the version byte.
pub fn term_after_version(bytes: &[u8]) -> Result<Cursor<'_>, Error> {
    let mut cursor = Cursor::new(bytes);
    let start = cursor;
    match cursor.u8()? {
        VERSION => Ok(cursor),
        found => Err(start.error(ErrorKind::Expected {
            expected: "tag 131",
            found,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_one_term() {
        // {[a, 1 | b], #{1 => "x"}}, and one more byte
        let bytes = [
            104, 2, 108, 0, 0, 0, 2, 119, 1, 97, 97, 1, 119, 1, 98, 116, 0, 0, 0, 1, 97, 1, 109, 0,
            0, 0, 1, 120, 7,
        ];
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(skip(&mut cursor), Ok(()));
        assert_eq!(cursor.rest(), [7]);
    }

    #[test]
    fn rejects_terms_that_are_nested_too_deep() {
        let nested = |depth: usize| {
            let mut bytes = [104, 1].repeat(depth);
            bytes.push(106);
            bytes
        };
        assert_eq!(skip(&mut Cursor::new(&nested(MAX_DEPTH))), Ok(()));
        let error = skip(&mut Cursor::new(&nested(MAX_DEPTH + 1))).unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (ErrorKind::Depth, 2 * MAX_DEPTH)
        );
    }

    #[test]
    fn rejects_counts_beyond_the_end() {
        for tag in [105, 108, 116] {
            let error = skip(&mut Cursor::new(&[tag, 255, 255, 255, 255, 106])).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (ErrorKind::End, 6));
        }
    }
}
