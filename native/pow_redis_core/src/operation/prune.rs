//! Deleting index sets that are not of the index.

use std::sync::Arc;

use super::reindex::ReindexMode;
use super::scan_page::{Page, PageScan, ScanPosition};
use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::layout::Layout;
use crate::resp::replies::Replies;

/// Deletes the index sets on one page of all keys that no pattern of the index names.
#[derive(Debug)]
pub struct Prune {
    position: ScanPosition,
    layout: Arc<Layout>,
    mode: ReindexMode,
    scan: PageScan,
    /// The sets that the next round deletes.
    sets: Vec<Vec<u8>>,
}

impl Prune {
    /// Prunes the page at `position`.
    pub fn new(position: ScanPosition, layout: &Arc<Layout>, mode: ReindexMode) -> Self {
        Self {
            scan: PageScan::new(position.clone(), "zset", layout.is_cluster),
            position,
            layout: Arc::clone(layout),
            mode,
            sets: Vec::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.position.clone(), &self.layout, self.mode);
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        if self.sets.is_empty() {
            self.scan.write(context);
        }
        for set in &self.sets {
            context.commands.push("DEL", set, |_| ());
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        if !self.sets.is_empty() {
            replies.finish()?;
            return Ok(Step::Done(self.outcome()));
        }
        let Some(redis_keys) = self.scan.read(&mut replies)? else {
            return Ok(Step::Again);
        };
        self.sets = redis_keys;
        self.sets.retain(|name| self.layout.is_unused_set(name));
        Ok(match self.mode {
            ReindexMode::Write if !self.sets.is_empty() => Step::Again,
            _ => Step::Done(self.outcome()),
        })
    }

    fn outcome(&self) -> Outcome {
        Outcome::Page(Page {
            pruned: u64::try_from(self.sets.len()).unwrap_or(u64::MAX),
            ..self.scan.page()
        })
    }
}
