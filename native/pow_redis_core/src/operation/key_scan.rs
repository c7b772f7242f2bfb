//! Scanning an index set, or all keys, for keys that match.

use std::sync::Arc;
use std::time::Duration;

use super::WriteContext;
use super::repair::StaleEntry;
use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::pattern::Pattern;
use crate::keyspace::redis_key::{RedisKey, count_parts};
use crate::resp::replies::Replies;

/// About how many keys a `SCAN` visits: few enough that other operations in the pipeline hardly wait.
const SCAN_PAGE: u64 = 512;
/// About how many members of an index set a `ZSCAN` visits.
const MIN_PAGE: u64 = 64;
const MAX_PAGE: u64 = 512;
/// How long Redis takes for a member and its value, in microseconds.
const BUSY_US: u64 = 2;

/// About how many members a `ZSCAN` visits: as many as Redis handles within one round-trip time. Other
/// operations then hardly wait, and the scan does not spend most of its time on the network.
fn page(round_trip: Duration) -> u64 {
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    (round_trip_us / BUSY_US).clamp(MIN_PAGE, MAX_PAGE)
}

/// A scan of an index set or of all keys, page by page.
#[derive(Debug)]
pub(super) struct KeyScan {
    /// What is index_entry.
    listing: Listing,
    /// Where the next page starts; `None` at the end.
    cursor: Option<u64>,
}

/// What is index_entry.
#[derive(Debug)]
pub(super) enum Listing {
    /// An index set, and the prefix of its members' keys.
    Index { set: Arc<[u8]>, prefix: RedisKey },
    /// All keys that match a glob.
    Scan { glob: Vec<u8> },
}

/// A key that matches, and whose value is to be read.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) redis_key: Vec<u8>,
    /// The canonical term of the key's parts.
    pub(super) key: Vec<u8>,
    /// Whether the key is in legacy form.
    pub(super) legacy: bool,
    pub(super) index_entry: Option<IndexEntry>,
}

/// The entry of a match in the index.
#[derive(Debug)]
pub(super) struct IndexEntry {
    set: Arc<[u8]>,
    /// Where the member starts in the Redis key.
    member: usize,
    score: Vec<u8>,
}

impl Match {
    /// The stale index entry, if the value is gone.
    pub(super) fn stale(self) -> Option<StaleEntry> {
        let index_entry = self.index_entry?;
        Some(StaleEntry {
            set: index_entry.set,
            member: self.redis_key.get(index_entry.member..)?.to_vec(),
            redis_key: self.redis_key,
            score: index_entry.score,
        })
    }

    /// The canonical form of a legacy key, which may have been renamed just now.
    pub(super) fn renamed(&self) -> Option<Self> {
        let key = Key::from_redis_key(&self.redis_key).filter(|_| self.legacy)?;
        Some(Self {
            redis_key: key.redis_key().as_bytes().to_vec(),
            key: self.key.clone(),
            legacy: false,
            index_entry: None,
        })
    }
}

impl KeyScan {
    /// A scan from the start.
    pub(super) const fn new(listing: Listing) -> Self {
        Self {
            listing,
            cursor: Some(0),
        }
    }

    /// Whether there are more pages.
    pub(super) const fn has_more(&self) -> bool {
        self.cursor.is_some()
    }

    /// Whether there are more pages after the first.
    pub(super) fn is_continuing(&self) -> bool {
        self.cursor.is_some_and(|cursor| cursor > 0)
    }

    /// Appends the command that lists the next page.
    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        let Some(cursor) = self.cursor else {
            return;
        };
        match &self.listing {
            Listing::Index { set, .. } => context.commands.push("ZSCAN", set, |command| {
                let page = page(context.round_trip);
                command.arg(cursor).arg("COUNT").arg(page);
            }),
            Listing::Scan { glob } => context.commands.push_keyless("SCAN", |command| {
                command.arg(cursor).arg("MATCH").arg(glob);
                command.arg("COUNT").arg(SCAN_PAGE);
                command.arg("TYPE").arg("string");
            }),
        }
    }

    /// Takes the page: those of its keys that match.
    pub(super) fn read(
        &mut self,
        replies: &mut Replies,
        pattern: &Pattern,
    ) -> Result<Vec<Match>, Error> {
        let (cursor, page) = replies.next_page()?;
        self.cursor = (cursor != 0).then_some(cursor);
        Ok(self.matches_found(page, pattern))
    }

    fn matches_found(&self, page: Vec<Vec<u8>>, pattern: &Pattern) -> Vec<Match> {
        let found = |redis_key: Vec<u8>, index_entry| {
            let found = Key::parts_of_redis_key(&redis_key)?;
            pattern.matches(&found.parts).then_some(Match {
                redis_key,
                key: found.parts,
                legacy: found.legacy,
                index_entry,
            })
        };
        let mut items = page.into_iter();
        match &self.listing {
            Listing::Scan { .. } => items
                .filter_map(|redis_key| found(redis_key, None))
                .collect(),
            Listing::Index { set, prefix } => {
                let prefix_parts = count_parts(prefix.as_bytes());
                let mut matches_found = Vec::new();
                while let (Some(member), Some(score)) = (items.next(), items.next()) {
                    if !pattern.fits(prefix_parts + count_parts(&member)) {
                        continue;
                    }
                    let index_entry = IndexEntry {
                        set: Arc::clone(set),
                        member: prefix.as_bytes().len() + 1,
                        score,
                    };
                    let redis_key = prefix.join(&member).into_bytes();
                    matches_found.extend(found(redis_key, Some(index_entry)));
                }
                matches_found
            }
        }
    }
}
