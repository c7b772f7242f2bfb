//! Which node of a cluster has a key.
//!
//! Slots and `CLUSTER SLOTS` are described in the
//! [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

use std::collections::{HashMap, HashSet};

use redis::Value;

use super::address::Address;

const SLOTS: u16 = 16_384;

/// The slots of a cluster, and the primary of each.
#[derive(Debug)]
pub(crate) struct SlotMap {
    ranges: Vec<SlotRange>,
    /// The addresses of nodes by their ids.
    nodes: HashMap<Vec<u8>, Address>,
}

/// Slots from `start` to `end`, both included.
#[derive(Debug)]
struct SlotRange {
    start: u16,
    end: u16,
    primary: Address,
    /// The primary's id, if it was reported.
    id: Option<Vec<u8>>,
}

impl SlotMap {
    /// Parses the reply to `CLUSTER SLOTS`: of each range start, end, and its nodes, the primary first.
    /// A node without an address is the one that was asked.
    pub(crate) fn parse(reply: &Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = reply else {
            return None;
        };
        let ranges = ranges.iter().map(|range| parse_range(range, asked));
        let ranges = ranges.collect::<Option<Vec<_>>>()?;
        let nodes = ranges.iter().filter_map(|range| {
            let id = range.id.clone()?;
            Some((id, range.primary.clone()))
        });
        Some(Self {
            nodes: nodes.collect(),
            ranges,
        })
    }

    /// Adds the addresses of nodes without slots.
    #[must_use]
    pub(crate) fn with_nodes(mut self, nodes: Vec<(Vec<u8>, Address)>) -> Self {
        for (id, address) in nodes {
            self.nodes.entry(id).or_insert(address);
        }
        self
    }

    /// The node with this id.
    pub(crate) fn node_with_id(&self, id: &[u8]) -> Option<&Address> {
        self.nodes.get(id)
    }

    /// Whether no slot has a primary.
    pub(crate) const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The primary that has a key.
    pub(crate) fn node_for(&self, key: &[u8]) -> Option<&Address> {
        let slot = slot(key);
        // The newest ranges stand last.
        let mut ranges = self.ranges.iter().rev();
        let range = ranges.find(|range| (range.start..=range.end).contains(&slot))?;
        Some(&range.primary)
    }

    /// Notes that a slot has moved.
    pub(crate) fn update_slot(&mut self, slot: u16, primary: &Address) {
        self.ranges
            .retain(|range| (range.start, range.end) != (slot, slot));
        self.ranges.push(SlotRange {
            start: slot,
            end: slot,
            primary: primary.clone(),
            id: None,
        });
    }

    /// The primaries that have slots.
    pub(crate) fn primaries(&self) -> HashSet<&Address> {
        self.ranges.iter().map(|range| &range.primary).collect()
    }
}

/// The address of a node that a cluster announces. One without a host has the host that was asked. One called
/// `?`, in a cluster that announces host names, has none: connecting to it fails, and says so.
pub(crate) fn announced(host: &str, port: u16, asked: &Address) -> Option<Address> {
    let host = match (host, asked) {
        ("", Address::Tcp { host, .. }) => host,
        ("", Address::Unix(_)) => return None,
        (host, _) => host,
    };
    Some(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

fn parse_range(range: &Value, asked: &Address) -> Option<SlotRange> {
    let Value::Array(range) = range else {
        return None;
    };
    let [
        Value::Int(start),
        Value::Int(end),
        Value::Array(primary),
        ..,
    ] = range.as_slice()
    else {
        return None;
    };
    let [host, Value::Int(port), rest @ ..] = primary.as_slice() else {
        return None;
    };
    let id = match rest {
        [Value::BulkString(id), ..] => Some(id.clone()),
        _ => None,
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        _ => "",
    };
    Some(SlotRange {
        start: u16::try_from(*start).ok()?,
        end: u16::try_from(*end).ok()?,
        primary: announced(host, u16::try_from(*port).ok()?, asked)?,
        id,
    })
}

/// The slot of a key. Our keys contain no braces, so the whole key is hashed.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(key) % SLOTS
}

/// CRC-16/XMODEM, as in the cluster specification.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::Tcp {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    fn range(start: i64, end: i64, host: &str, port: i64) -> Value {
        let primary = vec![
            Value::BulkString(host.as_bytes().to_vec()),
            Value::Int(port),
        ];
        Value::Array(vec![
            Value::Int(start),
            Value::Int(end),
            Value::Array(primary),
        ])
    }

    #[test]
    fn hashes_keys_as_the_specification_does() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn finds_the_primary_of_a_key() {
        let reply = Value::Array(vec![
            range(0, 12_181, "10.0.0.1", 1),
            range(12_182, 16_383, "", 2),
        ]);
        let mut slots = SlotMap::parse(&reply, &address(9)).unwrap();
        assert_eq!(slots.node_for(b""), Some(&address(1)));
        assert_eq!(slots.node_for(b"foo"), Some(&address(2)));
        assert_eq!(slots.primaries().len(), 2);

        slots.update_slot(12_182, &address(3));
        assert_eq!(slots.node_for(b"foo"), Some(&address(3)));
        slots.update_slot(12_182, &address(4));
        assert_eq!(slots.node_for(b"foo"), Some(&address(4)));
        assert_eq!((slots.primaries().len(), slots.ranges.len()), (3, 3));
    }

    #[test]
    fn a_node_without_a_host_has_the_one_that_was_asked() {
        let mut nameless = range(0, 5, "", 3);
        if let Value::Array(range) = &mut nameless {
            range[2] = Value::Array(vec![Value::Nil, Value::Int(3)]);
        }
        let reply = Value::Array(vec![
            range(0, 5, "", 1),
            range(6, 9, "?", 2),
            range(10, 20, "?", 2),
            nameless,
            range(12_182, 12_182, "redis.example.com", 4),
        ]);
        let slots = SlotMap::parse(&reply, &address(9)).unwrap();
        assert_eq!(slots.node_for(b""), Some(&address(3)));
        assert_eq!(slots.primaries().len(), 4);
        let nameless = slots.primaries().into_iter().map(Address::to_string);
        assert!(nameless.into_iter().any(|address| address == "?:2"));
        let named = slots.node_for(b"foo").unwrap();
        assert_eq!(named.to_string(), "redis.example.com:4");
        let unix = Address::Unix("/run/redis.sock".into());
        assert!(SlotMap::parse(&reply, &unix).is_none());
        assert_eq!(announced("h", 1, &unix).unwrap().to_string(), "h:1");
    }

    #[test]
    fn a_slot_without_a_primary() {
        let slots = SlotMap::parse(&Value::Array(vec![]), &address(9)).unwrap();
        assert!(slots.is_empty());
        assert_eq!(slots.node_for(b"foo"), None);
    }

    #[test]
    fn rejects_other_replies() {
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 70_000, "h", 1)]),
            Value::Array(vec![range(-1, 5, "h", 1)]),
            Value::Array(vec![range(0, 5, "h", 65_536)]),
        ] {
            assert!(SlotMap::parse(&reply, &address(9)).is_none(), "{reply:?}");
        }
    }
}
