//! Where the nodes of a cluster send commands on to.

use std::collections::HashMap;

use redis::Value;

use super::address::Address;
use super::slot_map::{announced, slot};

/// Where to send a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) node: Address,
    /// Whether `ASKING` comes before it.
    pub(super) asking: bool,
}

/// `MOVED`, or `ASK`, which is for one key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirection {
    pub(super) slot: u16,
    pub(super) target: Target,
}

/// The redirections of a round.
///
/// Invariant: once a command is redirected, all later ones of its key go the same way and run after it,
/// also those that a node has already run. Otherwise an older write would follow a newer one.
#[derive(Default)]
pub(super) struct Redirections<'c> {
    by_key: HashMap<&'c [u8], Target>,
    moved: HashMap<u16, Target>,
}

impl<'c> Redirections<'c> {
    /// Where to run a command again, given its own redirection and those of the commands before it. A slot
    /// moves with all its keys, but `ASK` is for one: the node that has the slot still has the others.
    pub(super) fn target_for(
        &mut self,
        key: Option<&'c [u8]>,
        own: Option<Redirection>,
    ) -> Option<Target> {
        let Some(key) = key else {
            return own.map(|own| own.target);
        };
        let before = self.by_key.get(key).or_else(|| self.moved.get(&slot(key)));
        let target = match (before, own) {
            (Some(target), _) => target.clone(),
            (None, Some(own)) => {
                if !own.target.asking {
                    self.moved.insert(own.slot, own.target.clone());
                }
                own.target
            }
            (None, None) => return None,
        };
        self.by_key.insert(key, target.clone());
        Some(target)
    }
}

impl Redirection {
    /// Parses an error reply of `from`.
    pub(super) fn parse(reply: &Value, from: &Address) -> Option<Self> {
        let Value::ServerError(error) = reply else {
            return None;
        };
        let asking = match error.code() {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let (slot, node) = error.details()?.split_once(' ')?;
        let (host, port) = node.rsplit_once(':')?;
        Some(Self {
            slot: slot.parse().ok()?,
            target: Target {
                node: announced(host, port.parse().ok()?, from)?,
                asking,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn parses_redirections() {
        let from = address("10.0.0.1", 7000);
        let parse = |text: &str| {
            let reply = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            Redirection::parse(&reply, &from)
        };
        let redirection = |host, asking| {
            let node = address(host, 6381);
            let target = Target { node, asking };
            Some(Redirection { slot: 3999, target })
        };
        for (text, expected) in [
            ("MOVED 3999 127.0.0.1:6381", redirection("127.0.0.1", false)),
            ("MOVED 3999 ::1:6381", redirection("::1", false)),
            ("ASK 3999 :6381", redirection("10.0.0.1", true)),
            ("MOVED 3999", None),
            ("MOVED 3999 127.0.0.1", None),
            ("MOVED 3999 127.0.0.1:x", None),
            ("MOVED x 127.0.0.1:6381", None),
            ("CLUSTERDOWN The cluster is down", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(Redirection::parse(&Value::Okay, &from), None);
    }
}
