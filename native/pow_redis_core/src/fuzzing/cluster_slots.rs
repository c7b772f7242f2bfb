//! Properties of the parser of `CLUSTER SLOTS`.

use redis::Value;

use super::replies::first_reply;
use crate::net::address::Address;
use crate::net::slot_map::SlotMap;

/// A reply to `CLUSTER SLOTS` is refused, or gives a map with no more primaries than it has ranges.
pub fn cluster_slots(bytes: &[u8]) {
    let Some(reply) = first_reply(bytes) else {
        return;
    };
    let asked = Address::Tcp {
        host: "asked".to_owned(),
        port: 1,
    };
    let Some(mut slots) = SlotMap::parse(&reply, &asked) else {
        return;
    };
    let Value::Array(ranges) = &reply else {
        panic!("accepted {reply:?}");
    };
    assert_eq!(slots.is_empty(), ranges.is_empty());
    assert!(slots.primaries().len() <= ranges.len());
    for key in [&b"foo"[..], bytes] {
        if let Some(Address::Tcp { host, .. }) = slots.node_for(key) {
            assert!(!host.is_empty());
        }
    }
    slots.update_slot(12_182, &asked);
    assert_eq!(slots.node_for(b"foo"), Some(&asked));
    assert!(slots.primaries().len() <= ranges.len() + 1);
}
