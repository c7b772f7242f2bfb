//! A key: a namespace and parts.
//!
//! Keys are stored in canonical form. A stored key is *legacy* if its atoms are encoded in Latin-1, as
//! Erlang/OTP 25 and earlier encode them. Pow's example backend wrote such keys on these releases. Legacy
//! keys are read and deleted like others, but never written.

use super::redis_key::{MAX_PARTS, MAX_REDIS_KEY_LEN, RedisKey, decode_parts};
use crate::error::{Error, ErrorKind};
use crate::etf::{
    self, AtomEncoding, Elements, Head, ListWriter, VERSION, canonicalize, term_after_version,
};

/// A longer external term has no valid key. Atoms take more bytes in it than in a Redis key.
const MAX_EXTERNAL_LEN: usize = 2 * MAX_REDIS_KEY_LEN;

/// The parts of a key, the namespace first, each an external term in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    parts: Vec<Vec<u8>>,
}

/// A decoded Redis key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DecodedKey {
    /// The list of the parts after the namespace, in canonical form without a version byte.
    pub(crate) parts_term: Vec<u8>,
    /// Whether the key is stored in another form than the canonical one.
    pub(crate) is_legacy: bool,
}

impl DecodedKey {
    /// Decodes a Redis key. Returns `None` if it is not one of the store.
    pub(crate) fn from_redis_key(redis_key: &[u8]) -> Option<Self> {
        let mut parts_term = Vec::with_capacity(redis_key.len());
        let mut list = ListWriter::begin(&mut parts_term);
        let mut is_legacy = false;
        for (position, part) in decode_parts(redis_key)?.iter().enumerate() {
            let term = canonicalize(part, AtomEncoding::Utf8).ok()?;
            is_legacy |= term != *part;
            if position > 0 {
                list.count_element();
                parts_term.extend(term.iter().skip(1));
            }
        }
        list.end(&mut parts_term);
        Some(Self {
            parts_term,
            is_legacy,
        })
    }
}

impl Key {
    /// A key from an external term, the list `[namespace | parts]`.
    pub fn from_external(bytes: &[u8]) -> Result<Self, Error> {
        if is_too_long(bytes) {
            return Err(ErrorKind::KeyTooLong.into());
        }
        let list = canonicalize(bytes, AtomEncoding::Utf8).map_err(ErrorKind::Key)?;
        let key = match Self::split(&list).map_err(ErrorKind::Key)? {
            Some(parts) if !parts.is_empty() => Self { parts },
            _ => return Err(ErrorKind::KeyShape.into()),
        };
        if key.parts.len() > MAX_PARTS || key.redis_key_len() > MAX_REDIS_KEY_LEN {
            return Err(ErrorKind::KeyTooLong.into());
        }
        Ok(key)
    }

    /// The elements of a proper list as external terms. Returns `None` for any other term.
    pub(super) fn split(list: &[u8]) -> Result<Option<Vec<Vec<u8>>>, etf::Error> {
        let mut cursor = term_after_version(list)?;
        let Some(mut elements) = Elements::read(&mut cursor)? else {
            return Ok(None);
        };
        let mut parts = Vec::new();
        while let Some(element) = elements.next_element()? {
            let mut part = Vec::with_capacity(1 + element.size());
            part.push(VERSION);
            element.write(&mut part);
            parts.push(part);
        }
        Ok(elements.is_end()?.then_some(parts))
    }

    /// A key from its parts, the namespace first.
    pub(crate) const fn from_parts(parts: Vec<Vec<u8>>) -> Self {
        Self { parts }
    }

    /// The key of a Redis key. Returns `None` if it is not one of the store.
    pub fn from_redis_key(redis_key: &[u8]) -> Option<Self> {
        let parts = decode_parts(redis_key)?
            .iter()
            .map(|part| canonicalize(part, AtomEncoding::Utf8).ok())
            .collect::<Option<Vec<_>>>()?;
        Some(Self { parts })
    }

    /// The namespace as an external term. Returns `None` if no part follows it: no key of the store is like
    /// that.
    pub(crate) fn namespace(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [namespace, _, ..] => Some(namespace),
            _ => None,
        }
    }

    /// The parts after the namespace, each an external term.
    pub(super) fn parts_after_namespace(&self) -> &[Vec<u8>] {
        self.parts.get(1..).unwrap_or_default()
    }

    /// The number of parts, the namespace included.
    pub(crate) const fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The key of the first `len` parts.
    pub(super) fn leading(&self, len: usize) -> Self {
        Self {
            parts: self.parts.iter().take(len).cloned().collect(),
        }
    }

    /// The length of the Redis key.
    fn redis_key_len(&self) -> usize {
        let base64 = |part: &Vec<u8>| (4 * part.len()).div_ceil(3);
        self.parts.iter().map(base64).sum::<usize>() + self.parts.len().saturating_sub(1)
    }

    /// The Redis key that the key is written to.
    pub fn redis_key(&self) -> RedisKey {
        RedisKey::from_parts(self.parts.iter().map(Vec::as_slice))
    }

    /// The Redis key of the legacy form, if it differs.
    pub fn legacy_redis_key(&self) -> Option<RedisKey> {
        let parts = self
            .parts
            .iter()
            .map(|part| canonicalize(part, AtomEncoding::Latin1).ok())
            .collect::<Option<Vec<_>>>()?;
        (parts != self.parts).then(|| RedisKey::from_parts(parts.iter().map(Vec::as_slice)))
    }

    /// The list of the parts after the namespace, in canonical form without a version byte.
    pub fn parts_term(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut list = ListWriter::begin(&mut out);
        for part in self.parts.iter().skip(1) {
            list.count_element();
            out.extend(part.iter().skip(1));
        }
        list.end(&mut out);
        out
    }
}

/// Whether the list of an external term has too many elements, or takes so many bytes that its Redis key
/// would be too long, however it is encoded. Takes the same time for any term.
pub(super) fn is_too_long(bytes: &[u8]) -> bool {
    let head = term_after_version(bytes).and_then(|mut cursor| Head::read(&mut cursor));
    let elements = match head {
        Ok(Head::List(elements)) => usize::try_from(elements).unwrap_or(usize::MAX),
        Ok(Head::String(bytes)) => bytes.len(),
        _ => 0,
    };
    elements > MAX_PARTS || bytes.len() > MAX_EXTERNAL_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `["ns", user, 1]` in legacy form.
    const LEGACY: &[u8] = &[
        131, 108, 0, 0, 0, 3, 109, 0, 0, 0, 2, 110, 115, 100, 0, 4, 117, 115, 101, 114, 97, 1, 106,
    ];

    #[test]
    fn is_written_in_canonical_form_and_read_in_both() {
        let key = Key::from_external(LEGACY).unwrap();
        assert_eq!(key.redis_key().as_bytes(), b"g20AAAACbnM:g3cEdXNlcg:g2EB");
        let legacy = key.legacy_redis_key().unwrap();
        assert_eq!(legacy.as_bytes(), b"g20AAAACbnM:g2QABHVzZXI:g2EB");
        assert_eq!(Key::from_redis_key(legacy.as_bytes()), Some(key.clone()));
        assert_eq!(
            key.parts_term(),
            [108, 0, 0, 0, 2, 119, 4, 117, 115, 101, 114, 97, 1, 106]
        );
    }

    #[test]
    fn without_atoms_has_no_legacy_form() {
        let key = Key::from_external(&[131, 107, 0, 2, 1, 2]).unwrap();
        assert_eq!(key.redis_key().as_bytes(), b"g2EB:g2EC");
        assert_eq!(key.legacy_redis_key(), None);
        assert_eq!(key.parts_term(), [107, 0, 1, 2]);
    }

    #[test]
    fn rejects_improper_lists_and_functions() {
        for improper in [
            &[131, 108, 0, 0, 0, 1, 97, 1, 97, 2][..],
            &[131, 97, 1],
            &[131, 106],
        ] {
            let error = Key::from_external(improper).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::KeyShape), "{improper:?}");
        }
        let function = [
            131, 108, 0, 0, 0, 1, 113, 119, 1, 97, 119, 1, 98, 97, 1, 106,
        ];
        let error = Key::from_external(&function).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Key(_)));
    }

    #[test]
    fn ignores_other_redis_keys() {
        for other in [
            &b"session:7"[..],
            b"",
            b"g2E",
            b"g2EBgg",
            b"_index:g2EB",
            b"abcd",
        ] {
            assert_eq!(Key::from_redis_key(other), None, "{other:?}");
        }
    }

    /// A list of this many empty lists, as an external term.
    fn empty_lists(number: usize) -> Vec<u8> {
        let elements = u32::try_from(number).unwrap();
        let mut list = [&[131, 108][..], &elements.to_be_bytes()].concat();
        list.resize(6 + number + 1, 106);
        list
    }

    fn outcome(list: &[u8]) -> Result<usize, Error> {
        Key::from_external(list).map(|key| key.redis_key().as_bytes().len())
    }

    #[test]
    fn has_at_most_64_parts_after_the_namespace() {
        let too_long = Err(ErrorKind::KeyTooLong.into());
        assert_eq!(outcome(&empty_lists(64)), Ok(64 * 4 - 1));
        assert_eq!(outcome(&empty_lists(65)), Ok(65 * 4 - 1));
        assert_eq!(outcome(&empty_lists(66)), too_long);
        let string = |length: u8| [&[131, 107, 0, length][..], &vec![1; length.into()]].concat();
        assert_eq!(outcome(&string(65)), Ok(65 * 5 - 1));
        assert_eq!(outcome(&string(66)), too_long);
        // A tail may be a list as well.
        let mut nested = empty_lists(60);
        nested.pop();
        nested.extend(&empty_lists(6)[1..]);
        assert_eq!(outcome(&nested), too_long);
    }

    #[test]
    fn is_known_to_be_too_long_before_it_is_read() {
        let string = |length: u8| [&[131, 107, 0, length][..], &vec![1; length.into()]].concat();
        let binary = |length: usize| {
            let size = u32::try_from(length - 6).unwrap().to_be_bytes();
            [&[131, 109][..], &size, &vec![0; length - 6]].concat()
        };
        for (term, is_long) in [
            (empty_lists(65), false),
            (empty_lists(66), true),
            (string(65), false),
            (string(66), true),
            (binary(MAX_EXTERNAL_LEN), false),
            (binary(MAX_EXTERNAL_LEN + 1), true),
            (vec![131, 106], false),
            (vec![], false),
        ] {
            assert_eq!(is_too_long(&term), is_long, "{} bytes", term.len());
        }
    }

    #[test]
    fn has_a_redis_key_of_at_most_16_kb() {
        // `["n", binary]`: the namespace takes 10 bytes, and the binary 4/3 of 6 more bytes than it has.
        let list = |length: usize| {
            let size = u32::try_from(length).unwrap().to_be_bytes();
            let head = [131, 108, 0, 0, 0, 2, 109, 0, 0, 0, 1, b'n', 109];
            [&head[..], &size, &vec![0; length], &[106]].concat()
        };
        let longest = (MAX_REDIS_KEY_LEN - 11) / 4 * 3 - 6;
        for length in [1, 2, 3, longest] {
            let key = Key::from_external(&list(length)).unwrap();
            assert_eq!(key.redis_key().as_bytes().len(), key.redis_key_len());
        }
        assert_eq!(outcome(&list(longest)), Ok(MAX_REDIS_KEY_LEN - 1));
        let too_long = Err(ErrorKind::KeyTooLong.into());
        assert_eq!(outcome(&list(longest + 1)), too_long);
        assert_eq!(outcome(&list(1_000_000)), too_long);
        // `["n", <<>>, binary]`: the first two parts take 10 and 8 bytes.
        let longest = (MAX_REDIS_KEY_LEN - 20) / 4 * 3 - 6;
        let list = |length: usize| {
            let size = u32::try_from(length).unwrap().to_be_bytes();
            let head = [131, 108, 0, 0, 0, 3, 109, 0, 0, 0, 1, b'n'];
            let binary = [&[109][..], &size, &vec![0; length]].concat();
            [&head[..], &[109, 0, 0, 0, 0], &binary, &[106]].concat()
        };
        assert_eq!(outcome(&list(longest)), Ok(MAX_REDIS_KEY_LEN));
        assert_eq!(outcome(&list(longest + 1)), too_long);
    }
}
