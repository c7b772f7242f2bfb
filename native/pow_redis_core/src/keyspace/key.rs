//! A key: namespace and parts.

use crate::error::{Error, ErrorKind};
use crate::etf::{AtomForm, Elements, ListWriter, VERSION, external, term_after_version};
use crate::keyspace::redis_key::{RedisKey, decode_parts};

/// The parts of a key, the namespace first, each an external term in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    parts: Vec<Vec<u8>>,
}

/// What a redis_key says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RedisKeyParts {
    /// The list of the parts behind the namespace, in canonical form without a version byte.
    pub(crate) parts: Vec<u8>,
    /// Whether the redis_key is in another form.
    pub(crate) legacy: bool,
}

impl Key {
    /// A key from the external term of the list `[namespace | parts]`.
    pub fn from_external(bytes: &[u8]) -> Result<Self, Error> {
        let list = external(bytes, AtomForm::Utf8).map_err(ErrorKind::Key)?;
        let parts = Self::split(&list).map_err(ErrorKind::Key)?;
        match parts {
            Some(parts) if !parts.is_empty() => Ok(Self { parts }),
            _ => Err(ErrorKind::KeyShape.into()),
        }
    }

    /// The elements of a proper list as external terms; `None` for any other term.
    fn split(list: &[u8]) -> Result<Option<Vec<Vec<u8>>>, crate::etf::Error> {
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

    /// A key from parts of which the namespace is the first.
    pub(crate) const fn from_parts(parts: Vec<Vec<u8>>) -> Self {
        Self { parts }
    }

    /// The key of a redis_key found in Redis; `None` for a Redis key that is not one of ours.
    pub fn from_redis_key(redis_key: &[u8]) -> Option<Self> {
        let parts = decode_parts(redis_key)?
            .iter()
            .map(|part| external(part, AtomForm::Utf8).ok())
            .collect::<Option<Vec<_>>>()?;
        Some(Self { parts })
    }

    /// The namespace as external term; `None` where nothing follows it, as in a key of ours.
    pub(crate) fn namespace(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [namespace, _, ..] => Some(namespace),
            _ => None,
        }
    }

    /// What a redis_key found in Redis says; `None` for a Redis key that is not one of ours.
    pub(crate) fn parts_of_redis_key(redis_key: &[u8]) -> Option<RedisKeyParts> {
        let mut parts = Vec::with_capacity(redis_key.len());
        let mut list = ListWriter::begin(&mut parts);
        let mut legacy = false;
        for (position, part) in decode_parts(redis_key)?.iter().enumerate() {
            let term = external(part, AtomForm::Utf8).ok()?;
            legacy |= term != *part;
            if position > 0 {
                list.count_element();
                parts.extend(term.iter().skip(1));
            }
        }
        list.end(&mut parts);
        Some(RedisKeyParts { parts, legacy })
    }

    /// Where the key is written.
    pub fn redis_key(&self) -> RedisKey {
        RedisKey::from_parts(self.parts.iter().map(Vec::as_slice))
    }

    /// Where the key was written by Pow's guide on Erlang/OTP 25 and earlier, if elsewhere.
    pub fn legacy_redis_key(&self) -> Option<RedisKey> {
        let parts = self
            .parts
            .iter()
            .map(|part| external(part, AtomForm::Latin1).ok())
            .collect::<Option<Vec<_>>>()?;
        (parts != self.parts).then(|| RedisKey::from_parts(parts.iter().map(Vec::as_slice)))
    }

    /// The list of the parts behind the namespace, in canonical form without a version byte.
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

    /// `["ns", user, 1]` as Erlang/OTP 25 and earlier write it.
    const OLD: &[u8] = &[
        131, 108, 0, 0, 0, 3, 109, 0, 0, 0, 2, 110, 115, 100, 0, 4, 117, 115, 101, 114, 97, 1, 106,
    ];

    #[test]
    fn is_written_in_one_form_and_read_in_two() {
        let key = Key::from_external(OLD).unwrap();
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
    fn without_atoms_there_is_one_path() {
        let key = Key::from_external(&[131, 107, 0, 2, 1, 2]).unwrap();
        assert_eq!(key.redis_key().as_bytes(), b"g2EB:g2EC");
        assert_eq!(key.legacy_redis_key(), None);
        assert_eq!(key.parts_term(), [107, 0, 1, 2]);
    }

    #[test]
    fn a_key_is_a_proper_list_without_functions() {
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
    fn other_keys_in_redis_are_not_ours() {
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
