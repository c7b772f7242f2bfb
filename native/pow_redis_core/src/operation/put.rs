//! Writing records.

use super::{Layout, Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::index::{Addition, Life, additions};
use crate::key::Key;
use crate::path::Path;

/// Writes records: first their index, then their values, so that a crash in between leaves at worst
/// a member without a value, never a value that `all` cannot find.
#[derive(Debug)]
pub struct Put {
    records: Vec<(Path, Vec<u8>)>,
    additions: Vec<Addition>,
    life: Life,
}

impl Put {
    /// Writes values, each an external term. Fails on a value that could not be read back.
    pub fn new(records: Vec<(Key, Vec<u8>)>, life: Life, layout: Layout) -> Result<Self, Error> {
        for (_, value) in &records {
            etf::check(value).map_err(ErrorKind::Value)?;
        }
        let records: Vec<_> = records
            .into_iter()
            .map(|(key, value)| (key.path(), value))
            .collect();
        let additions = match layout {
            Layout::Indexed => additions(records.iter().map(|(path, _)| path)),
            Layout::Plain => Vec::new(),
        };
        Ok(Self {
            records,
            additions,
            life,
        })
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        for addition in &self.additions {
            addition.write_purge(self.life, round.now_ms, round.purges, round.commands);
            addition.write(self.life, round.now_ms, round.commands);
        }
        for (path, value) in &self.records {
            round.commands.push("SET", |command| {
                command.arg(path.as_bytes()).arg(value);
                if let Life::Milliseconds(ms) = self.life {
                    command.arg("PX").arg(ms);
                }
            });
        }
    }

    pub(super) fn read(&self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        Ok(Step::Done(Outcome::Done))
    }
}
