//! Adding keys to the index, and renaming legacy keys.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use super::reindex_key::ReindexKey;
use super::rename_across_slots::RenameAcrossSlots;
use super::scan_page::{Page, PageScan, ScanPosition, count_too_long};
use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::layout::Layout;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;

/// After how many bytes of index entries a round has no more keys.
const BATCH_BYTES: usize = 1 << 20;
/// How many legacy keys a round has on a cluster: their values are copied.
const MAX_COPIES: usize = 16;

/// Reindexes one page of all keys: adds missing index entries, and renames legacy keys.
#[derive(Debug)]
pub struct Reindex {
    position: ScanPosition,
    layout: Arc<Layout>,
    mode: ReindexMode,
    scan: PageScan,
    stage: ReindexStage,
    /// The keys of the round.
    keys: Vec<ReindexKey>,
    /// The keys of the rounds after it.
    waiting: VecDeque<ReindexKey>,
    found: u64,
    indexed: u64,
    renamed: u64,
    skipped: u64,
}

/// Whether a reindex writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReindexMode {
    /// Writes what is missing.
    Write,
    /// Only counts what is missing.
    DryRun,
}

#[derive(Debug)]
enum ReindexStage {
    Scan,
    ReadTtls,
    /// The last stage of a dry run.
    CountMissing,
    Write,
    /// On a cluster, renames the legacy keys.
    Rename(RenameAcrossSlots),
    /// If both forms of a key exist, deletes the legacy one.
    DeleteLegacy,
}

impl Reindex {
    /// Reindexes the page at `position`.
    pub fn new(position: ScanPosition, layout: &Arc<Layout>, mode: ReindexMode) -> Self {
        Self {
            scan: PageScan::new(position.clone(), "string", layout.is_cluster),
            position,
            layout: Arc::clone(layout),
            mode,
            stage: ReindexStage::Scan,
            keys: Vec::new(),
            waiting: VecDeque::new(),
            found: 0,
            indexed: 0,
            renamed: 0,
            skipped: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.position.clone(), &self.layout, self.mode);
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        match &self.stage {
            ReindexStage::Scan => self.scan.write(context),
            ReindexStage::ReadTtls => {
                for key in &self.keys {
                    let stored = key.stored_redis_key().as_bytes();
                    context.commands.push("PTTL", stored, |_| ());
                }
            }
            ReindexStage::CountMissing => {
                for key in &self.keys {
                    for (set, member) in key.entries(&self.layout.index) {
                        context.commands.push("ZSCORE", &set, |command| {
                            command.arg(member);
                        });
                    }
                }
            }
            ReindexStage::Write => {
                for key in &self.keys {
                    key.write(&self.layout, context);
                }
            }
            ReindexStage::Rename(renames) => renames.write(context),
            ReindexStage::DeleteLegacy => {
                for legacy in self.keys.iter().filter_map(ReindexKey::redundant) {
                    context.commands.push("DEL", legacy.as_bytes(), |_| ());
                }
            }
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        match &mut self.stage {
            ReindexStage::Scan => {
                let Some(redis_keys) = self.scan.read(&mut replies)? else {
                    return Ok(Step::Again);
                };
                Ok(self.read_keys(&redis_keys))
            }
            ReindexStage::ReadTtls => {
                for mut key in std::mem::take(&mut self.keys) {
                    // Without a TTL, the key no longer exists.
                    if let Some(ttl) = Ttl::from_pttl(replies.next_integer()?) {
                        key.ttl = ttl;
                        self.found += 1;
                        self.waiting.push_back(key);
                    }
                }
                Ok(self.next_batch())
            }
            ReindexStage::CountMissing => {
                for key in &self.keys {
                    let mut is_missing = false;
                    for _ in key.entries(&self.layout.index) {
                        is_missing |= replies.next_bytes()?.is_none();
                    }
                    self.indexed += u64::from(is_missing);
                    self.renamed += u64::from(key.is_legacy());
                }
                Ok(self.next_batch())
            }
            ReindexStage::Write => {
                for key in &mut self.keys {
                    let written = key.read(&self.layout, &mut replies)?;
                    self.indexed += u64::from(written.indexed);
                    self.renamed += u64::from(written.renamed);
                }
                Ok(self.after_write())
            }
            ReindexStage::Rename(renames) => match renames.read(&mut replies)? {
                Some(renamed) => {
                    self.renamed += renamed;
                    Ok(self.next_batch())
                }
                None => Ok(Step::Again),
            },
            ReindexStage::DeleteLegacy => {
                replies.finish()?;
                Ok(self.next_batch())
            }
        }
    }

    fn read_keys(&mut self, redis_keys: &[Vec<u8>]) -> Step {
        self.skipped = count_too_long(redis_keys);
        self.keys = redis_keys
            .iter()
            .filter_map(|redis_key| ReindexKey::from_redis_key(redis_key))
            .collect();
        if self.keys.is_empty() {
            return Step::Done(self.outcome());
        }
        self.stage = ReindexStage::ReadTtls;
        Step::Again
    }

    fn after_write(&mut self) -> Step {
        if self.layout.is_cluster
            && let Some(renames) = RenameAcrossSlots::new(&self.keys)
        {
            self.stage = ReindexStage::Rename(renames);
            return Step::Again;
        }
        if self.keys.iter().all(|key| key.redundant().is_none()) {
            return self.next_batch();
        }
        self.stage = ReindexStage::DeleteLegacy;
        Step::Again
    }

    /// Takes the keys of the next round. Without any, the page is done.
    fn next_batch(&mut self) -> Step {
        self.keys.clear();
        let (mut bytes, mut copies) = (0, 0);
        while bytes < BATCH_BYTES
            && copies < MAX_COPIES
            && let Some(key) = self.waiting.pop_front()
        {
            bytes += key.entries_len(&self.layout.index);
            copies += usize::from(key.is_legacy() && self.layout.is_cluster);
            self.keys.push(key);
        }
        if self.keys.is_empty() {
            return Step::Done(self.outcome());
        }
        self.stage = match self.mode {
            ReindexMode::Write => ReindexStage::Write,
            ReindexMode::DryRun => ReindexStage::CountMissing,
        };
        Step::Again
    }

    fn outcome(&self) -> Outcome {
        Outcome::Page(Page {
            keys: self.found,
            indexed: self.indexed,
            renamed: self.renamed,
            skipped: self.skipped,
            ..self.scan.page()
        })
    }
}
