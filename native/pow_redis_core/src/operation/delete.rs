//! Deleting one key.

use super::{Layout, Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::Error;
use crate::key::Key;
use crate::path::Path;

/// Deletes one key in both forms: first its value, then its place in the index, so that a crash in
/// between leaves at worst a member without a value.
#[derive(Debug)]
pub struct Delete {
    paths: Vec<Path>,
    layout: Layout,
}

impl Delete {
    /// Deletes `key`.
    pub fn new(key: &Key, layout: Layout) -> Self {
        Self {
            paths: std::iter::once(key.path())
                .chain(key.legacy_path())
                .collect(),
            layout,
        }
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        for path in &self.paths {
            round.commands.push("DEL", |command| {
                command.arg(path.as_bytes());
            });
        }
        if self.layout == Layout::Indexed {
            for (set, member) in self.paths.iter().flat_map(Path::memberships) {
                round.commands.push("ZREM", |command| {
                    command.arg(set).arg(member);
                });
            }
        }
    }

    pub(super) fn read(&self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        Ok(Step::Done(Outcome::Done))
    }
}
