//! The operations of the store, as state machines without I/O.
//!
//! An operation takes one or more rounds. In each, [`Operation::write`] appends commands, and
//! [`Operation::read`] reads exactly their replies. All operations are idempotent: if the connection is
//! lost, the round is written again.

mod all;
mod delete;
mod get;
mod key_scan;
mod maintain_index;
mod ping;
mod put;
pub mod records;
mod reindex;
mod reindex_key;
mod repair;
#[cfg(test)]
mod testing;

pub use all::All;
pub use delete::Delete;
pub use get::Get;
pub use maintain_index::MaintainIndex;
pub use ping::Ping;
pub use put::Put;
pub use reindex::{Reindex, ReindexMode};
pub use repair::Repair;

use std::time::Duration;

use self::records::Records;
use crate::error::Error;
use crate::etf;
use crate::keyspace::index_maintenance::IndexMaintenance;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// What an operation needs to write its commands.
#[derive(Debug)]
pub struct WriteContext<'a> {
    /// The commands to append to.
    pub commands: &'a mut Commands,
    /// The time on the server's clock, in Unix milliseconds.
    pub now_ms: i64,
    /// The round-trip time to the server.
    pub round_trip: Duration,
    /// Decides when index sets are maintained.
    pub maintenance: &'a mut IndexMaintenance,
}

/// The state of an operation after a round.
#[derive(Debug)]
pub enum Step {
    /// It needs another round.
    Again,
    /// It is done.
    Done(Outcome),
}

/// The outcome of an operation.
#[derive(Debug)]
pub enum Outcome {
    /// It succeeded, without a result.
    Done,
    /// The key does not exist.
    NotFound,
    /// The value of the key, a valid external term.
    Value(Vec<u8>),
    /// The value of the key is invalid.
    Invalid(etf::Error),
    /// The matching records.
    Records {
        /// The records, sorted by the bytes of their keys.
        records: Records,
        /// The number of invalid values, which are ignored.
        invalid: usize,
        /// Repairs the index entries without a value. To be run later.
        repair: Option<Repair>,
    },
    /// A page of keys was reindexed.
    Page {
        /// The cursor of the next page; 0 at the end.
        cursor: u64,
        /// The number of keys of the store on the page.
        keys: u64,
        /// How many of them were missing from the index.
        indexed: u64,
        /// How many of them were legacy keys.
        renamed: u64,
        /// How many Redis keys on the page are longer than those of the store, and were skipped.
        skipped: u64,
    },
}

/// An operation of the store.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum Operation {
    All(Box<All>),
    Delete(Delete),
    Get(Get),
    MaintainIndex(MaintainIndex),
    Ping(Ping),
    Put(Put),
    Reindex(Reindex),
    Repair(Repair),
}

impl Operation {
    /// Appends the commands of the next round. Writing again without reading is allowed.
    pub fn write(&mut self, context: &mut WriteContext<'_>) {
        match self {
            Self::All(all) => all.write(context),
            Self::Delete(delete) => delete.write(context),
            Self::Get(get) => get.write(context),
            Self::MaintainIndex(maintain_index) => maintain_index.write(context),
            Self::Ping(ping) => ping.write(context),
            Self::Put(put) => put.write(context),
            Self::Reindex(reindex) => reindex.write(context),
            Self::Repair(repair) => repair.write(context),
        }
    }

    /// Reads the replies to the commands of the round.
    pub fn read(&mut self, replies: Replies) -> Result<Step, Error> {
        match self {
            Self::All(all) => all.read(replies),
            Self::Delete(delete) => delete.read(replies),
            Self::Get(get) => get.read(replies),
            Self::MaintainIndex(maintain_index) => maintain_index.read(replies),
            Self::Ping(ping) => ping.read(replies),
            Self::Put(put) => put.read(replies),
            Self::Reindex(reindex) => reindex.read(replies),
            Self::Repair(repair) => repair.read(replies),
        }
    }

    /// Prepares for another connection, perhaps to another server.
    pub fn reset(&mut self) {
        match self {
            Self::All(all) => all.reset(),
            Self::Reindex(reindex) => reindex.reset(),
            Self::Delete(_)
            | Self::Get(_)
            | Self::MaintainIndex(_)
            | Self::Ping(_)
            | Self::Put(_)
            | Self::Repair(_) => {}
        }
    }

    /// The bytes that it holds until it is done: keys, values and index entries.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::All(all) => all.byte_len(),
            Self::Delete(delete) => delete.byte_len(),
            Self::Get(get) => get.byte_len(),
            Self::Put(put) => put.byte_len(),
            Self::MaintainIndex(_) | Self::Ping(_) | Self::Reindex(_) | Self::Repair(_) => 0,
        }
    }

    /// Whether it is a put or a delete: these run in the order in which they were submitted.
    pub const fn is_write(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Delete(_))
    }

    /// Whether it is a write that needs more than one further round.
    pub fn is_long_write(&self) -> bool {
        match self {
            Self::Put(put) => put.is_long(),
            _ => false,
        }
    }

    /// Whether its next round reads many keys and delays other operations in the same pipeline.
    pub fn is_listing(&self) -> bool {
        match self {
            Self::All(all) => all.is_long(),
            Self::Reindex(_) => true,
            _ => false,
        }
    }

    /// Whether it maintains index sets.
    pub const fn maintains_index(&self) -> bool {
        matches!(self, Self::Put(_) | Self::MaintainIndex(_))
    }

    /// Whether no caller waits for it. It is not retried after an error reply.
    pub const fn is_background(&self) -> bool {
        matches!(self, Self::Repair(_) | Self::MaintainIndex(_))
    }
}
