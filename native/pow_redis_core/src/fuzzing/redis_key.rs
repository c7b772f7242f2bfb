//! Properties of Redis keys.

use crate::keyspace::key::{DecodedKey, Key};
use crate::keyspace::redis_key::{RedisKey, decode_parts, index_set, part_count};

/// A Redis key is made from its parts again, index entries lead back to it, and both ways of decoding it
/// agree.
pub fn redis_key(bytes: &[u8]) {
    let key = Key::from_redis_key(bytes);
    let decoded = DecodedKey::from_redis_key(bytes);
    assert_eq!(
        key.as_ref().map(Key::parts_term),
        decoded.as_ref().map(|decoded| decoded.parts_term.clone())
    );
    if let (Some(key), Some(decoded)) = (&key, &decoded) {
        let canonical = key.redis_key();
        assert_eq!(canonical.as_bytes() != bytes, decoded.is_legacy);
        assert_eq!(
            Key::from_redis_key(canonical.as_bytes()).as_ref(),
            Some(key)
        );
    }
    let Some(parts) = decode_parts(bytes) else {
        assert!(key.is_none());
        return;
    };
    let redis_key = RedisKey::from_parts(parts.iter().map(Vec::as_slice));
    assert_eq!(redis_key.as_bytes(), bytes);
    assert_eq!(part_count(bytes), parts.len());
    check_index_entries(&redis_key, &parts);
}

fn check_index_entries(redis_key: &RedisKey, parts: &[Vec<u8>]) {
    let mut entries = 0;
    for (position, (prefix, member)) in redis_key.splits().enumerate() {
        let set = index_set(prefix);
        let Some(prefix) = RedisKey::from_index_set(&set) else {
            panic!("{set:?} was not accepted");
        };
        assert_eq!(prefix.index_set(), set);
        assert_eq!(part_count(prefix.as_bytes()), position + 1);
        assert_eq!(
            part_count(prefix.as_bytes()) + part_count(member),
            parts.len()
        );
        assert_eq!(&prefix.join(member), redis_key);
        entries += 1;
    }
    assert_eq!(entries, parts.len() - 1);
}
