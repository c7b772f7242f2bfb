//! The Redis key of a key, and the names of index sets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::resp::parser::MAX_ITEM_LEN;

const SEPARATOR: u8 = b':';
/// Most Redis keys fit into this many bytes.
const CAPACITY: usize = 128;
const INDEX_PREFIX: &[u8] = b"_index:";

/// The most parts of a key: the namespace and 64 others. Pow's keys have at most six.
pub const MAX_PARTS: usize = 1 + 64;
/// The longest Redis key, in bytes. Pow's longest have a few hundred.
pub const MAX_REDIS_KEY_LEN: usize = 16 << 10;
/// Longer strings in a reply are cut, but to more than this, so that they are known to be too long.
const _: () = assert!(INDEX_PREFIX.len() + MAX_REDIS_KEY_LEN < MAX_ITEM_LEN);

/// A Redis key: the parts of a key, each encoded in base64url without padding, joined by `:`.
///
/// A prefix of its parts also names an index set. The remaining parts are a member of that set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisKey {
    bytes: Vec<u8>,
}

impl RedisKey {
    /// The Redis key of these parts, each an external term.
    pub fn from_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut text = String::with_capacity(CAPACITY);
        for (position, part) in parts.into_iter().enumerate() {
            if position > 0 {
                text.push(char::from(SEPARATOR));
            }
            URL_SAFE_NO_PAD.encode_string(part, &mut text);
        }
        Self {
            bytes: text.into_bytes(),
        }
    }

    /// A Redis key from its bytes, which are not checked.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
        }
    }

    /// The prefix in the name of an index set. Returns `None` for other names.
    pub(crate) fn from_index_set(name: &[u8]) -> Option<Self> {
        name.strip_prefix(INDEX_PREFIX).map(Self::from_bytes)
    }

    /// The Redis key of a member of the index set that `self` names.
    pub fn join(&self, member: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 1 + member.len());
        bytes.extend(&self.bytes);
        bytes.push(SEPARATOR);
        bytes.extend(member);
        Self { bytes }
    }

    /// The bytes of the Redis key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the Redis key.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The name of the index set of this prefix.
    pub fn index_set(&self) -> Vec<u8> {
        index_set(&self.bytes)
    }

    /// The ways to split the Redis key into a prefix, from the shortest on, and the remaining parts.
    pub fn splits(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.bytes
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == SEPARATOR)
            .filter_map(|(position, _)| {
                let (prefix, rest) = self.bytes.split_at_checked(position)?;
                Some((prefix, rest.get(1..)?))
            })
    }
}

/// The name of the index set of a prefix.
pub fn index_set(prefix: &[u8]) -> Vec<u8> {
    [INDEX_PREFIX, prefix].concat()
}

/// The number of parts of a Redis key or of a member of an index set.
pub(crate) fn part_count(redis_key: &[u8]) -> usize {
    1 + redis_key.iter().filter(|&&byte| byte == SEPARATOR).count()
}

/// Whether a Redis key is longer, or has more parts, than one of the store may.
pub(crate) fn is_too_long(redis_key: &[u8]) -> bool {
    redis_key.len() > MAX_REDIS_KEY_LEN || part_count(redis_key) > MAX_PARTS
}

/// The parts of a Redis key. Returns `None` if it is not one of the store.
pub fn decode_parts(redis_key: &[u8]) -> Option<Vec<Vec<u8>>> {
    if is_too_long(redis_key) {
        return None;
    }
    redis_key
        .split(|&byte| byte == SEPARATOR)
        .map(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes_parts() {
        let parts = [&[131, 97, 1][..], &[131, 106]];
        let redis_key = RedisKey::from_parts(parts);
        assert_eq!(redis_key.as_bytes(), b"g2EB:g2o");
        assert_eq!(
            decode_parts(redis_key.as_bytes()),
            Some(parts.map(<[u8]>::to_vec).to_vec())
        );
        assert_eq!(decode_parts(b"g2EB:session:7"), None);
        assert_eq!(decode_parts(b"g2E="), None);
    }

    #[test]
    fn a_redis_key_has_at_most_64_parts_after_the_namespace() {
        let redis_key = |parts: usize| vec!["g2EB"; parts].join(":");
        for (parts, is_valid) in [
            (MAX_PARTS - 1, true),
            (MAX_PARTS, true),
            (MAX_PARTS + 1, false),
        ] {
            let redis_key = redis_key(parts);
            assert_eq!(
                decode_parts(redis_key.as_bytes()).is_some(),
                is_valid,
                "{parts}"
            );
            assert_eq!(is_too_long(redis_key.as_bytes()), !is_valid, "{parts}");
        }
    }

    #[test]
    fn a_redis_key_has_at_most_16_kb() {
        let redis_key = |length: usize| "A".repeat(length);
        // In base64, no string has one more character than a multiple of four.
        for (length, is_valid) in [
            (MAX_REDIS_KEY_LEN - 4, true),
            (MAX_REDIS_KEY_LEN, true),
            (MAX_REDIS_KEY_LEN + 4, false),
        ] {
            let redis_key = redis_key(length);
            assert_eq!(
                decode_parts(redis_key.as_bytes()).is_some(),
                is_valid,
                "{length}"
            );
            assert_eq!(is_too_long(redis_key.as_bytes()), !is_valid, "{length}");
        }
    }

    #[test]
    fn splits_after_each_prefix() {
        let redis_key = RedisKey::from_parts([&[131, 97, 1][..], &[131, 106], &[131, 97, 2]]);
        let splits: Vec<_> = redis_key.splits().collect();
        assert_eq!(
            splits,
            [
                (&b"g2EB"[..], &b"g2o:g2EC"[..]),
                (&b"g2EB:g2o"[..], &b"g2EC"[..]),
            ]
        );
        let prefix = RedisKey::from_parts([&[131, 97, 1][..]]);
        assert_eq!(prefix.index_set(), b"_index:g2EB");
        assert_eq!(prefix.join(b"g2o:g2EC"), redis_key);
        assert_eq!(RedisKey::from_index_set(&prefix.index_set()), Some(prefix));
        assert_eq!(RedisKey::from_index_set(redis_key.as_bytes()), None);
    }
}
