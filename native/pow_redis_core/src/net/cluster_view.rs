//! What a node of a cluster reports about the cluster.
//!
//! The reply to [`CLUSTER NODES`](https://redis.io/docs/latest/commands/cluster-nodes/) has a line for each
//! node: id, address, flags, its primary, four numbers, and its slots. Slots on the move stand in brackets,
//! and only in the line of the node that was asked.

use std::collections::BTreeMap;

use redis::Value;

use super::address::Address;
use super::slot_map::announced;
use crate::error::{Error, ErrorKind};
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// The primaries of a cluster by their ids, each with its slots, as one of them reports them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClusterView {
    primaries: BTreeMap<Vec<u8>, String>,
}

/// The line of a node.
struct NodeLine<'l> {
    id: &'l str,
    address: &'l str,
    flags: &'l str,
    slots: Vec<&'l str>,
}

impl ClusterView {
    /// Appends the command that asks a node, or any.
    pub(crate) fn write(node: Option<&[u8]>, commands: &mut Commands) {
        commands.push_at(node, "CLUSTER", |command| {
            command.arg("NODES");
        });
    }

    /// Reads the reply.
    pub(crate) fn read(replies: &mut Replies) -> Result<Self, Error> {
        let text = replies.next_bytes()?.unwrap_or_default();
        Self::parse(&text).ok_or_else(|| ErrorKind::Protocol.into())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let lines = node_lines(text)?.into_iter();
        let primaries = lines.filter(NodeLine::is_primary);
        Some(Self {
            primaries: primaries
                .map(|line| (line.id.as_bytes().to_vec(), line.slots.join(" ")))
                .collect(),
        })
    }

    /// The ids of the primaries.
    pub(crate) fn primaries(&self) -> impl Iterator<Item = &[u8]> {
        self.primaries.keys().map(Vec::as_slice)
    }

    /// Whether slots of the node are on the move.
    pub(crate) fn is_moving(&self) -> bool {
        self.primaries.values().any(|slots| slots.contains('['))
    }
}

/// The addresses of all nodes by their ids, of which `asked` has sent the reply.
pub(crate) fn addresses(reply: &Value, asked: &Address) -> Option<Vec<(Vec<u8>, Address)>> {
    let Value::BulkString(text) = reply else {
        return None;
    };
    let lines = node_lines(text)?.into_iter();
    let known = lines.filter_map(|line| Some((line.id.as_bytes().to_vec(), line.endpoint(asked)?)));
    Some(known.collect())
}

fn node_lines(text: &[u8]) -> Option<Vec<NodeLine<'_>>> {
    std::str::from_utf8(text)
        .ok()?
        .lines()
        .filter(|line| !line.is_empty())
        .map(NodeLine::parse)
        .collect()
}

impl<'l> NodeLine<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let mut words = line.split(' ');
        let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
        let slots = words.skip(5).collect();
        Some(Self {
            id,
            address,
            flags,
            slots,
        })
    }

    fn has_flag(&self, wanted: &str) -> bool {
        self.flags.split(',').any(|flag| flag == wanted)
    }

    /// Whether it is a primary that has slots, or may get some.
    fn is_primary(&self) -> bool {
        let is_gone = ["fail", "noaddr", "handshake"]
            .iter()
            .any(|flag| self.has_flag(flag));
        self.has_flag("master") && !(is_gone && self.slots.is_empty())
    }

    /// `host:port@busport`, and after a comma the host name, if it has one.
    fn endpoint(&self, asked: &Address) -> Option<Address> {
        let mut fields = self.address.split(',');
        let (host, port) = fields.next()?.split('@').next()?.rsplit_once(':')?;
        let host = fields
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or(host);
        announced(host, port.parse().ok()?, asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
        07c3 127.0.0.1:30004@31004,host4 slave e7d1 0 1426238317239 4 connected\n\
        67ed 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922\n\
        e7d1 :30001@31001 myself,master - 0 0 1 connected 0-5460 [93-<-67ed] [77->-67ed]\n\
        aaaa 127.0.0.1:30005@31005,host5,shard-id=1 master - 0 0 3 connected\n\
        bbbb 127.0.0.1:30006@31006 master,fail - 0 0 3 disconnected\n\
        cccc 127.0.0.1:30007@31007 master,fail? - 0 0 3 connected 10923-16383\n";

    fn view(text: &str) -> ClusterView {
        ClusterView::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_the_primaries_that_have_or_may_get_slots() {
        let view = view(NODES);
        let ids: Vec<_> = view.primaries().collect();
        assert_eq!(ids, [&b"67ed"[..], b"aaaa", b"cccc", b"e7d1"]);
        let failed = NODES.replace("disconnected", "disconnected 16384");
        assert_eq!(self::view(&failed).primaries().count(), 5);
    }

    #[test]
    fn notices_slots_on_the_move() {
        assert!(view(NODES).is_moving());
        let (settled, _) = NODES.split_once(" [93").unwrap();
        assert!(!view(settled).is_moving());
    }

    #[test]
    fn differs_if_slots_do_but_not_if_times_do() {
        assert_eq!(view(NODES), view(&NODES.replace("1426238316232", "7")));
        assert_ne!(view(NODES), view(&NODES.replace("5461-", "5462-")));
    }

    #[test]
    fn finds_the_address_of_each_node() {
        let asked = Address::Tcp {
            host: "10.0.0.9".to_owned(),
            port: 7,
        };
        let reply = Value::BulkString(NODES.as_bytes().to_vec());
        let addresses = addresses(&reply, &asked).unwrap();
        let shown: Vec<_> = addresses
            .iter()
            .map(|(_, address)| address.to_string())
            .collect();
        assert_eq!(
            shown,
            [
                "host4:30004",
                "127.0.0.1:30002",
                "10.0.0.9:30001",
                "host5:30005",
                "127.0.0.1:30006",
                "127.0.0.1:30007"
            ]
        );
        assert!(super::addresses(&Value::Nil, &asked).is_none());
    }

    #[test]
    fn other_texts_are_no_view() {
        for text in [&b"id address"[..], b"\xff"] {
            assert_eq!(ClusterView::parse(text), None, "{text:?}");
        }
        let mut replies = Replies::new(vec![Value::Int(1)]);
        assert!(ClusterView::read(&mut replies).is_err());
    }
}
