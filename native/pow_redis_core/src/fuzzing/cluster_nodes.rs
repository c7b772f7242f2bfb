//! Properties of the parser of `CLUSTER NODES`.

use redis::Value;

use crate::net::address::Address;
use crate::net::cluster_view::{self, ClusterView};
use crate::resp::replies::Replies;

/// A reply to `CLUSTER NODES` is refused, or each primary and each address stands in a line of its own.
pub fn cluster_nodes(bytes: &[u8]) {
    let asked = Address::Tcp {
        host: "asked".to_owned(),
        port: 1,
    };
    let reply = Value::BulkString(bytes.to_vec());
    let addresses = cluster_view::addresses(&reply, &asked);
    let view = ClusterView::read(&mut Replies::new(vec![reply]));
    assert_eq!(addresses.is_some(), view.is_ok());
    let (Some(addresses), Ok(view)) = (addresses, view) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        panic!("a reply that is no text was accepted: {bytes:?}");
    };
    let lines = text.lines().filter(|line| !line.is_empty()).count();
    assert!(addresses.len() <= lines && view.primaries().count() <= lines);
    for id in view.primaries() {
        let start = [id, b" "].concat();
        assert!(text.lines().any(|line| line.as_bytes().starts_with(&start)));
    }
    for (_, address) in addresses {
        let Address::Tcp { host, .. } = address else {
            panic!("{address:?}");
        };
        assert!(host == "asked" || (!host.is_empty() && text.contains(&host)));
    }
    assert!(!view.is_moving() || text.contains('['));
}
