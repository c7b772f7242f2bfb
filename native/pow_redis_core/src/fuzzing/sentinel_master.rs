//! Properties of the parser of `SENTINEL MASTER`.

use super::replies::first_reply;
use crate::net::address::Address;
use crate::net::sentinel::Primary;

/// A reply to `SENTINEL MASTER` is refused, or the primary's host stands in it.
pub fn sentinel_master(bytes: &[u8]) {
    let Some(reply) = first_reply(bytes) else {
        return;
    };
    if let Some(primary) = Primary::parse(&reply) {
        let Address::Tcp { host, .. } = primary.address else {
            panic!("{:?}", primary.address);
        };
        let host = host.as_bytes();
        assert!(host.is_empty() || bytes.windows(host.len()).any(|window| window == host));
    }
}
