//! Scanning an index set, or all keys, for keys that match a pattern.

use std::sync::Arc;
use std::time::Duration;

use super::WriteContext;
use super::repair::StaleEntry;
use crate::error::Error;
use crate::keyspace::key::{DecodedKey, Key};
use crate::keyspace::pattern::Pattern;
use crate::keyspace::redis_key::{RedisKey, part_count};
use crate::resp::replies::Replies;

/// The `COUNT` of `SCAN`: low enough to hardly delay other operations in the pipeline.
const SCAN_COUNT: u64 = 512;
/// The least and the greatest `COUNT` of `ZSCAN`.
const MIN_ZSCAN_COUNT: u64 = 64;
const MAX_ZSCAN_COUNT: u64 = 512;
/// How long Redis takes for a member and its value, in microseconds.
const MEMBER_US: u64 = 2;

/// The `COUNT` of `ZSCAN`: as many members as Redis handles within one round-trip time. Other operations
/// are hardly delayed, and the scan does not spend most of its time on the network.
fn zscan_count(round_trip: Duration) -> u64 {
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    (round_trip_us / MEMBER_US).clamp(MIN_ZSCAN_COUNT, MAX_ZSCAN_COUNT)
}

/// A scan of an index set or of all keys, page by page.
#[derive(Debug)]
pub(super) struct KeyScan {
    target: ScanTarget,
    /// The cursor of the next page; `None` at the end.
    cursor: Option<u64>,
}

/// What a [`KeyScan`] scans.
#[derive(Debug)]
pub(super) enum ScanTarget {
    /// An index set, and the prefix of the Redis keys that its members name.
    IndexSet { set: Arc<[u8]>, prefix: RedisKey },
    /// All Redis keys that match a glob.
    AllKeys { glob: Vec<u8> },
}

/// A key that matches. Its value is read next.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) redis_key: Vec<u8>,
    /// The list of the key's parts after the namespace, in canonical form.
    pub(super) parts_term: Vec<u8>,
    pub(super) is_legacy: bool,
    /// Its entry in the index set that was scanned.
    pub(super) index_entry: Option<IndexEntry>,
}

/// The entry of a key in an index set.
#[derive(Debug)]
pub(super) struct IndexEntry {
    set: Arc<[u8]>,
    /// The position of the member in the Redis key.
    member_start: usize,
    score: Vec<u8>,
}

impl Match {
    /// The index entry of the match, which is stale because there is no value.
    pub(super) fn into_stale_entry(self) -> Option<StaleEntry> {
        let index_entry = self.index_entry?;
        Some(StaleEntry {
            set: index_entry.set,
            member: self.redis_key.get(index_entry.member_start..)?.to_vec(),
            redis_key: self.redis_key,
            score: index_entry.score,
        })
    }

    /// The canonical key of a legacy one, which a reindex may just have renamed.
    pub(super) fn renamed(&self) -> Option<Self> {
        let key = Key::from_redis_key(&self.redis_key).filter(|_| self.is_legacy)?;
        Some(Self {
            redis_key: key.redis_key().as_bytes().to_vec(),
            parts_term: self.parts_term.clone(),
            is_legacy: false,
            index_entry: None,
        })
    }
}

impl KeyScan {
    /// A scan from the start.
    pub(super) const fn new(target: ScanTarget) -> Self {
        Self {
            target,
            cursor: Some(0),
        }
    }

    /// Whether there is another page.
    pub(super) const fn has_more(&self) -> bool {
        self.cursor.is_some()
    }

    /// Whether there is another page after the first.
    pub(super) fn is_continuing(&self) -> bool {
        self.cursor.is_some_and(|cursor| cursor > 0)
    }

    /// Appends the command that reads the next page.
    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        let Some(cursor) = self.cursor else {
            return;
        };
        match &self.target {
            ScanTarget::IndexSet { set, .. } => context.commands.push("ZSCAN", set, |command| {
                let count = zscan_count(context.round_trip);
                command.arg(cursor).arg("COUNT").arg(count);
            }),
            ScanTarget::AllKeys { glob } => context.commands.push_keyless("SCAN", |command| {
                command.arg(cursor).arg("MATCH").arg(glob);
                command.arg("COUNT").arg(SCAN_COUNT);
                command.arg("TYPE").arg("string");
            }),
        }
    }

    /// Reads a page. Returns the keys that match.
    pub(super) fn read(
        &mut self,
        replies: &mut Replies,
        pattern: &Pattern,
    ) -> Result<Vec<Match>, Error> {
        let (cursor, page) = replies.next_page()?;
        self.cursor = (cursor != 0).then_some(cursor);
        Ok(self.matches(page, pattern))
    }

    fn matches(&self, page: Vec<Vec<u8>>, pattern: &Pattern) -> Vec<Match> {
        let match_key = |redis_key: Vec<u8>, index_entry| {
            let key = DecodedKey::from_redis_key(&redis_key)?;
            pattern.matches(&key.parts_term).then_some(Match {
                redis_key,
                parts_term: key.parts_term,
                is_legacy: key.is_legacy,
                index_entry,
            })
        };
        let mut items = page.into_iter();
        match &self.target {
            ScanTarget::AllKeys { .. } => items
                .filter_map(|redis_key| match_key(redis_key, None))
                .collect(),
            ScanTarget::IndexSet { set, prefix } => {
                let prefix_parts = part_count(prefix.as_bytes());
                let mut matches = Vec::new();
                while let (Some(member), Some(score)) = (items.next(), items.next()) {
                    if !pattern.accepts_part_count(prefix_parts + part_count(&member)) {
                        continue;
                    }
                    let index_entry = IndexEntry {
                        set: Arc::clone(set),
                        member_start: prefix.as_bytes().len() + 1,
                        score,
                    };
                    let redis_key = prefix.join(&member).into_bytes();
                    matches.extend(match_key(redis_key, Some(index_entry)));
                }
                matches
            }
        }
    }
}
