//! Ending what lost connections left behind.
//!
//! What was sent over a connection that has been lost may still lie in a buffer of the network or of the
//! server, and be executed later: after the same write was sent again, or after a delete. So the server is
//! told to close the lost connection before anything is sent to it again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most lost connections to remember. Each is to another server process: connecting to one ends those
/// to it.
const MAX_LOST: usize = 64;

/// A connection as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    /// Identifies the server process: ids and addresses are used again after a restart.
    pub(super) run_id: String,
    /// What `CLIENT KILL ID` takes.
    pub(super) id: String,
    /// What `CLIENT KILL ADDR` takes.
    pub(super) address: String,
}

/// The connections that were lost while something was under way on them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence(Arc<Mutex<Lost>>);

#[derive(Debug, Default)]
struct Lost {
    connections: Vec<ConnectionId>,
    /// Whether a server has told the id of a connection.
    is_known: bool,
}

impl ConnectionId {
    /// Parses the `run_id` of `INFO` and the reply to `CLIENT INFO`.
    pub(super) fn parse(run_id: Option<&str>, client_info: &[u8]) -> Option<Self> {
        let client_info = std::str::from_utf8(client_info).ok()?;
        let field = |name: &str| {
            let mut fields = client_info.split_ascii_whitespace();
            let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        Some(Self {
            run_id: run_id.filter(|run_id| !run_id.is_empty())?.to_owned(),
            id: field("id")?,
            address: field("addr")?,
        })
    }
}

impl Fence {
    /// Notes a lost connection.
    pub(super) fn add(&self, lost: ConnectionId) {
        let connections = &mut self.state().connections;
        if connections.len() == MAX_LOST {
            connections.remove(0);
        }
        connections.push(lost);
    }

    /// The lost connections to a server process.
    pub(super) fn lost(&self, run_id: &str) -> Vec<ConnectionId> {
        let state = self.state();
        let lost = state
            .connections
            .iter()
            .filter(|lost| lost.run_id == run_id);
        lost.cloned().collect()
    }

    /// Forgets connections that have ended.
    pub(super) fn remove(&self, ended: &[ConnectionId]) {
        let connections = &mut self.state().connections;
        connections.retain(|lost| !ended.contains(lost));
    }

    /// A server has told the id of a connection.
    pub(super) fn know(&self) {
        self.state().is_known = true;
    }

    /// Whether a server has told the id of a connection: no proxy stands before it that does not know the
    /// command.
    pub(super) fn is_known(&self) -> bool {
        self.state().is_known
    }

    fn state(&self) -> MutexGuard<'_, Lost> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(run_id: &str, id: usize) -> ConnectionId {
        ConnectionId {
            run_id: run_id.to_owned(),
            id: id.to_string(),
            address: "127.0.0.1:50000".to_owned(),
        }
    }

    #[test]
    fn parses_what_identifies_a_connection() {
        let info = b"id=7 addr=127.0.0.1:50000 laddr=127.0.0.1:6379 fd=8 name= age=0\n";
        let parsed = ConnectionId::parse(Some("abc"), info);
        assert_eq!(parsed, Some(connection("abc", 7)));
        let unix = ConnectionId::parse(Some("abc"), b"id=7 addr=/run/redis.sock:0 laddr=x");
        assert_eq!(unix.unwrap().address, "/run/redis.sock:0");
        for (run_id, info) in [
            (None, &info[..]),
            (Some(""), info),
            (Some("abc"), b"id=7 laddr=127.0.0.1:6379"),
            (Some("abc"), b"id= addr=127.0.0.1:50000"),
            (Some("abc"), b"\xff"),
        ] {
            assert_eq!(ConnectionId::parse(run_id, info), None);
        }
    }

    #[test]
    fn knows_the_lost_connections_to_a_process() {
        let fence = Fence::default();
        fence.add(connection("a", 1));
        fence.add(connection("b", 2));
        fence.clone().add(connection("a", 3));
        let lost = fence.lost("a");
        assert_eq!(lost, [connection("a", 1), connection("a", 3)]);
        fence.add(connection("a", 4));
        fence.remove(&lost);
        assert_eq!(fence.lost("a"), [connection("a", 4)]);
        assert_eq!(fence.lost("b"), [connection("b", 2)]);
    }

    #[test]
    fn knows_whether_the_server_tells_ids() {
        let fence = Fence::default();
        assert!(!fence.is_known());
        fence.clone().know();
        assert!(fence.is_known());
    }

    #[test]
    fn forgets_the_oldest_of_too_many() {
        let fence = Fence::default();
        (0..=MAX_LOST).for_each(|id| fence.add(connection("a", id)));
        let lost = fence.lost("a");
        assert_eq!((lost.len(), &lost[0]), (MAX_LOST, &connection("a", 1)));
    }
}
