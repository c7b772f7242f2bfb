//! A key: a namespace and parts.
//!
//! Keys are stored in canonical form. A stored key is *legacy* if its atoms are encoded in Latin-1, as
//! Erlang/OTP 25 and earlier encode them. Pow's example backend wrote such keys on these releases. Legacy
//! keys are read and deleted like others, but never written.

use super::redis_key::{RedisKey, decode_parts};
use crate::error::{Error, ErrorKind};
use crate::etf::{
    self, AtomEncoding, Elements, ListWriter, VERSION, canonicalize, term_after_version,
};

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
        let list = canonicalize(bytes, AtomEncoding::Utf8).map_err(ErrorKind::Key)?;
        let parts = Self::split(&list).map_err(ErrorKind::Key)?;
        match parts {
            Some(parts) if !parts.is_empty() => Ok(Self { parts }),
            _ => Err(ErrorKind::KeyShape.into()),
        }
    }

    /// The elements of a proper list as external terms. Returns `None` for any other term.
    fn split(list: &[u8]) -> Result<Option<Vec<Vec<u8>>>, etf::Error> {
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
}
