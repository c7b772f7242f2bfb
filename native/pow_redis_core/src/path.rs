//! Where a key lies in Redis.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const SEPARATOR: u8 = b':';
/// Most paths are no longer.
const MOST_PATHS: usize = 128;
const INDEX_PREFIX: &[u8] = b"_index:";

/// The parts of a key, each in base64url without padding, joined by `:`. This is the name of a
/// Redis key; its first parts also name the index sets in which the others are members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    bytes: Vec<u8>,
}

impl Path {
    /// The path of parts, each an external term.
    pub fn from_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut text = String::with_capacity(MOST_PATHS);
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

    /// The path that a Redis key is.
    pub(crate) fn found(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
        }
    }

    /// The path whose index set has this name; `None` for the name of anything else.
    pub(crate) fn of_index_set(name: &[u8]) -> Option<Self> {
        name.strip_prefix(INDEX_PREFIX).map(Self::found)
    }

    /// The path of a member of the index set of `self`.
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

    /// The same, as bytes of its own.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The name of the index set that holds what follows these parts.
    pub fn index_set(&self) -> Vec<u8> {
        index_set(&self.bytes)
    }

    /// Where the path stands in the index: for each of its first parts the name of the set, and the
    /// rest of the path, which is the member.
    pub fn memberships(&self) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
        self.bytes
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == SEPARATOR)
            .filter_map(|(position, _)| {
                let (prefix, rest) = self.bytes.split_at_checked(position)?;
                Some((index_set(prefix), rest.get(1..)?))
            })
    }
}

fn index_set(path: &[u8]) -> Vec<u8> {
    [INDEX_PREFIX, path].concat()
}

/// How many parts a path found in Redis has.
pub(crate) fn count_parts(path: &[u8]) -> usize {
    1 + path.iter().filter(|&&byte| byte == SEPARATOR).count()
}

/// The parts of a path found in Redis; `None` for a Redis key that is no path.
pub fn decode_parts(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    path.split(|&byte| byte == SEPARATOR)
        .map(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_parts_and_splits_them() {
        let parts = [&[131, 97, 1][..], &[131, 106]];
        let path = Path::from_parts(parts);
        assert_eq!(path.as_bytes(), b"g2EB:g2o");
        assert_eq!(
            decode_parts(path.as_bytes()),
            Some(parts.map(<[u8]>::to_vec).to_vec())
        );
        assert_eq!(decode_parts(b"g2EB:session:7"), None);
        assert_eq!(decode_parts(b"g2E="), None);
    }

    #[test]
    fn stands_in_a_set_for_each_of_its_first_parts() {
        let path = Path::from_parts([&[131, 97, 1][..], &[131, 106], &[131, 97, 2]]);
        let memberships: Vec<_> = path.memberships().collect();
        assert_eq!(
            memberships,
            [
                (b"_index:g2EB".to_vec(), &b"g2o:g2EC"[..]),
                (b"_index:g2EB:g2o".to_vec(), &b"g2EC"[..]),
            ]
        );
        let prefix = Path::from_parts([&[131, 97, 1][..]]);
        assert_eq!(prefix.index_set(), b"_index:g2EB");
        assert_eq!(prefix.join(b"g2o:g2EC"), path);
        assert_eq!(Path::of_index_set(&prefix.index_set()), Some(prefix));
        assert_eq!(Path::of_index_set(path.as_bytes()), None);
    }
}
