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

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use crate::keyspace::index::Index;

    fn prune(mode: ReindexMode) -> Driver {
        let index = Index::Patterns(vec![index_pattern(&[ANY, ATOM_A, ANY])]);
        let layout = Arc::new(Layout::standalone(index));
        Driver::new(Operation::Prune(Prune::new(
            ScanPosition::default(),
            &layout,
            mode,
        )))
    }

    fn sets() -> [String; 4] {
        [
            format!("_index:{N}"),
            format!("_index:{N}:{ONE}:{A}"),
            "_index:another app's".to_owned(),
            "a set".to_owned(),
        ]
    }

    fn scanned() -> redis::Value {
        let sets = sets();
        page(9, &sets.each_ref().map(String::as_str))
    }

    fn pruned(outcome: Outcome) -> (u64, Option<u64>) {
        match outcome {
            Outcome::Page(page) => (page.pruned, page.next.map(|next| next.cursor)),
            _ => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn deletes_the_sets_that_no_pattern_names() {
        let mut driver = prune(ReindexMode::Write);
        let scan = ["SCAN 0 COUNT 512 TYPE zset"];
        assert_eq!(driver.write(), scan);
        driver.again(vec![scanned()]);
        assert_eq!(driver.write(), [format!("DEL _index:{N}")]);
        driver.operation.reset();
        assert_eq!(driver.write(), scan, "on another connection");
        driver.again(vec![scanned()]);
        assert_eq!(pruned(driver.done(okays(1))), (1, Some(9)));
    }

    #[test]
    fn a_dry_run_only_counts() {
        let mut driver = prune(ReindexMode::DryRun);
        assert_eq!(pruned(driver.done(vec![scanned()])), (1, Some(9)));
        let mut driver = prune(ReindexMode::Write);
        assert_eq!(pruned(driver.done(vec![page(0, &["a set"])])), (0, None));
    }

    #[test]
    fn fails_on_an_error_reply() {
        let mut driver = prune(ReindexMode::Write);
        driver.again(vec![scanned()]);
        assert_eq!(
            driver.fails_with(vec![error("NOPERM no")]),
            "redis returned NOPERM"
        );
    }
}
