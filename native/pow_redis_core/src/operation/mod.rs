//! What callers ask for, as state machines without I/O.
//!
//! An operation takes one or more rounds. In each, [`Operation::write`] appends commands and
//! [`Operation::read`] takes exactly their replies. A round that got lost with its connection is
//! written again: every operation is idempotent.

mod all;
mod delete;
mod get;
mod key_scan;
mod maintain_index;
mod ping;
mod put;
pub mod records;
mod reindex;
mod repair;
#[cfg(test)]
mod testing;

pub use all::All;
pub use delete::Delete;
pub use get::Get;
pub use maintain_index::MaintainIndex;
pub use ping::Ping;
pub use put::Put;
pub use reindex::{Mode, Reindex};
pub use repair::Repair;

use std::time::Duration;

use crate::error::Error;
use crate::etf;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

use self::records::Records;
use crate::keyspace::index_maintenance::IndexMaintenance;

/// What an operation sees of the world while it writes.
#[derive(Debug)]
pub struct WriteContext<'a> {
    /// Where commands go.
    pub commands: &'a mut Commands,
    /// The server's clock.
    pub now_ms: i64,
    /// How long the way to the server and back takes.
    pub round_trip: Duration,
    /// When index sets are looked after.
    pub maintenance: &'a mut IndexMaintenance,
}

/// Where an operation stands after a round.
#[derive(Debug)]
pub enum Step {
    /// It wants another round.
    Again,
    /// It is done.
    Done(Outcome),
}

/// What comes of an operation.
#[derive(Debug)]
pub enum Outcome {
    /// It was done; there is nothing to say.
    Done,
    /// There is no such key.
    NotFound,
    /// The value of a key, an external term that passed the check.
    Value(Vec<u8>),
    /// The key has a value that is not fit to become a term.
    Invalid(etf::Error),
    /// Keys with their values.
    Records {
        /// The records, in the order of their keys' bytes.
        records: Records,
        /// How many values were left out because they are not fit to become terms.
        invalid: usize,
        /// What to look at again later.
        repair: Option<Repair>,
    },
    /// A page of keys was looked at.
    Page {
        /// Where to go on; 0 at the end.
        cursor: u64,
        /// How many keys of ours the page held.
        keys: u64,
        /// How many of them were missing in the index.
        indexed: u64,
        /// How many of them were not in their canonical form.
        renamed: u64,
    },
}

/// Any operation.
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

    /// Takes the replies to the commands of the round.
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

    /// Prepares for another connection, maybe to another server.
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

    /// Whether its writes keep their order among each other.
    pub const fn is_write(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Delete(_))
    }

    /// Whether it is a write that takes more rounds than the next.
    pub fn is_long_write(&self) -> bool {
        match self {
            Self::Put(put) => put.is_long(),
            _ => false,
        }
    }

    /// Whether it looks at many keys, so that others in the same pipeline would wait for it.
    pub fn is_listing(&self) -> bool {
        match self {
            Self::All(all) => all.is_long(),
            Self::Reindex(_) => true,
            _ => false,
        }
    }

    /// Whether it looks after index sets.
    pub const fn maintains_index(&self) -> bool {
        matches!(self, Self::Put(_) | Self::MaintainIndex(_))
    }

    /// Whether nobody waits for it, so that an error reply ends it without further ado.
    pub const fn is_background(&self) -> bool {
        matches!(self, Self::Repair(_) | Self::MaintainIndex(_))
    }
}
