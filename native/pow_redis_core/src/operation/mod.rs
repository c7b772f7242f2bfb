//! The operations of the store, as state machines without I/O.
//!
//! An operation takes one or more rounds. In each, [`Operation::write`] appends commands, and
//! [`Operation::read`] reads exactly their replies. All operations are idempotent: if the connection is
//! lost, the round is written again.

mod all;
mod delete;
mod get;
mod index_scan;
mod keyspace_scan;
mod ping;
mod prune;
mod put;
mod put_new;
pub mod records;
mod reindex;
mod reindex_key;
mod rename_across_slots;
mod reseal;
mod scan_page;
mod testing;

pub use all::All;
pub use delete::Delete;
pub use get::{Get, Lease};
pub use ping::Ping;
pub use prune::Prune;
pub use put::Put;
pub use put_new::PutNew;
pub use reindex::{Reindex, ReindexMode};
pub use reseal::Reseal;
pub use scan_page::{Page, ScanPosition};

use std::collections::BTreeMap;
use std::time::Duration;

use self::records::Records;
use crate::error::Error;
use crate::etf;
use crate::keyspace::pattern::Shape;
use crate::near::Validity;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;
use crate::seal::Unopened;

/// What an operation needs to write its commands.
#[derive(Debug)]
pub struct WriteContext<'a> {
    /// The commands to append to.
    pub commands: &'a mut Commands,
    /// The time on the server's clock, in Unix milliseconds.
    pub now_ms: i64,
    /// The round-trip time to the server.
    pub round_trip: Duration,
    /// What stamps reads, if the connection tracks them.
    pub validity: Option<&'a Validity>,
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
    /// Whether the record was written.
    Written(bool),
    /// The key does not exist.
    NotFound,
    /// The value of the key, a valid external term.
    Value(Vec<u8>),
    /// The value of the key, and how long it may be used without asking again.
    NearValue(Vec<u8>, Lease),
    /// The value of the key is invalid.
    Invalid(etf::Error),
    /// The value of the key does not open.
    Unopened(Unopened),
    /// The matching records.
    Records {
        /// The records, sorted by the bytes of their keys.
        records: Records,
        /// The number of invalid values, which are ignored.
        invalid: usize,
        /// Why other values do not open, which are ignored too, and how many.
        unopened: BTreeMap<Unopened, usize>,
    },
    /// A page of keys was processed.
    Page(Page),
}

/// An operation of the store.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum Operation {
    All(Box<All>),
    Delete(Delete),
    Get(Get),
    Ping(Ping),
    Prune(Prune),
    Put(Put),
    PutNew(PutNew),
    Reindex(Reindex),
    Reseal(Reseal),
}

impl Operation {
    /// Appends the commands of the next round. Writing again without reading is allowed.
    pub fn write(&mut self, context: &mut WriteContext<'_>) {
        match self {
            Self::All(all) => all.write(context),
            Self::Delete(delete) => delete.write(context),
            Self::Get(get) => get.write(context),
            Self::Ping(ping) => ping.write(context),
            Self::Prune(prune) => prune.write(context),
            Self::Put(put) => put.write(context),
            Self::PutNew(put_new) => put_new.write(context),
            Self::Reindex(reindex) => reindex.write(context),
            Self::Reseal(reseal) => reseal.write(context),
        }
    }

    /// Reads the replies to the commands of the round.
    pub fn read(&mut self, replies: Replies) -> Result<Step, Error> {
        match self {
            Self::All(all) => all.read(replies),
            Self::Delete(delete) => delete.read(replies),
            Self::Get(get) => get.read(replies),
            Self::Ping(ping) => ping.read(replies),
            Self::Prune(prune) => prune.read(replies),
            Self::Put(put) => put.read(replies),
            Self::PutNew(put_new) => put_new.read(replies),
            Self::Reindex(reindex) => reindex.read(replies),
            Self::Reseal(reseal) => reseal.read(replies),
        }
    }

    /// Prepares for another connection, perhaps to another server.
    pub fn reset(&mut self) {
        match self {
            Self::All(all) => all.reset(),
            Self::Prune(prune) => prune.reset(),
            Self::Reindex(reindex) => reindex.reset(),
            Self::Reseal(reseal) => reseal.reset(),
            Self::Delete(_) | Self::Get(_) | Self::Ping(_) | Self::Put(_) | Self::PutNew(_) => {}
        }
    }

    /// The bytes that it holds until it is done: keys, values and index entries.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::All(all) => all.byte_len(),
            Self::Delete(delete) => delete.byte_len(),
            Self::Get(get) => get.byte_len(),
            Self::Put(put) => put.byte_len(),
            Self::PutNew(put_new) => put_new.byte_len(),
            Self::Ping(_) | Self::Prune(_) | Self::Reindex(_) | Self::Reseal(_) => 0,
        }
    }

    /// Whether it is a put, a put of a new key or a delete: these run in the order in which they were submitted.
    pub const fn is_write(&self) -> bool {
        matches!(self, Self::Put(_) | Self::PutNew(_) | Self::Delete(_))
    }

    /// Whether it has to come in order with the writes: it is one, or a read whose value may be used again.
    pub fn is_ordered(&self) -> bool {
        match self {
            Self::Get(get) => get.is_near(),
            Self::All(all) => all.is_near(),
            _ => self.is_write(),
        }
    }

    /// The Redis keys whose values it writes.
    pub(crate) fn written_keys(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Self::Put(put) => Box::new(put.redis_keys()),
            Self::PutNew(put_new) => Box::new(std::iter::once(put_new.redis_key())),
            Self::Delete(delete) => Box::new(delete.redis_keys()),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Whether it is a write that needs more than one further round.
    pub fn is_long_write(&self) -> bool {
        match self {
            Self::Put(put) => put.is_long(),
            Self::Delete(delete) => delete.is_long(),
            _ => false,
        }
    }

    /// Whether its next round reads many keys and delays other operations in the same pipeline.
    pub fn is_listing(&self) -> bool {
        match self {
            Self::All(all) => all.is_long(),
            Self::Reindex(_) | Self::Reseal(_) | Self::Prune(_) => true,
            _ => false,
        }
    }

    /// Takes the shape of a pattern for which no index set lists all keys that match.
    pub(crate) const fn take_index_miss(&mut self) -> Option<Shape> {
        match self {
            Self::All(all) => all.take_miss(),
            _ => None,
        }
    }
}
