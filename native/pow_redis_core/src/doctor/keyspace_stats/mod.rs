//! Counting the keys and index sets of a database. Writes nothing.

mod index_set;
mod keyspace_scan;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use self::keyspace_scan::KeyspaceScan;
use crate::error::Error;
use crate::keyspace::layout::Layout;
use crate::net::client::Client;
use crate::resp::commands::Commands;
use crate::resp::replies::RoundReplies;

/// The keys and index sets of a database in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceStats {
    /// The number of Redis keys scanned, of any kind.
    pub keys: u64,
    /// The keys of the store by namespace, which is an external term.
    pub namespaces: HashMap<Vec<u8>, NamespaceStats>,
    /// The number of legacy keys.
    pub legacy: u64,
    /// The number of Redis keys and members that are longer than those of the store. They are skipped.
    pub too_long: u64,
    /// The number of index sets that are of the index.
    pub sets: u64,
    /// The number of other index sets, which `all` does not read.
    pub unused_sets: u64,
    /// The number of their members.
    pub members: u64,
    /// The number of members whose value has expired, as expected.
    pub expired: u64,
    /// The number of members without a value that should not have expired yet.
    pub stale: u64,
    /// The number of index sets that expire before one of their members.
    pub expires_early: u64,
}

/// The keys of a namespace in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceStats {
    /// The number of keys in all of the index sets that should list them.
    pub indexed: u64,
    /// The number of other keys.
    pub plain: u64,
}

/// How a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// It scanned the whole database.
    Complete,
    /// It reached its deadline.
    Stopped,
    /// It failed.
    Failed(Error),
}

/// Scans the whole database, or until `deadline`. A round that takes longer than `round_timeout` fails.
pub(super) fn scan(
    client: &mut Client,
    layout: &Layout,
    round_timeout: Duration,
    deadline: Instant,
) -> (KeyspaceStats, ScanEnd) {
    let mut scan = KeyspaceScan::new(layout);
    while !scan.is_done() {
        if Instant::now() >= deadline {
            return (scan.into_stats(), ScanEnd::Stopped);
        }
        if let Err(error) = run_round(&mut scan, client, round_timeout) {
            return (scan.into_stats(), ScanEnd::Failed(error));
        }
    }
    (scan.into_stats(), ScanEnd::Complete)
}

fn run_round(
    scan: &mut KeyspaceScan<'_>,
    client: &mut Client,
    round_timeout: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + round_timeout;
    let mut commands = Commands::new();
    scan.write(&mut commands);
    let replies = commands.len();
    client.send(&mut commands, deadline.into())?;
    let replies = (0..replies)
        .map(|_| client.receive(deadline.into()))
        .collect::<Result<RoundReplies, _>>()?;
    scan.read(replies.into(), client.clock().now_ms())
}
