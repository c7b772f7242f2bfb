//! Writing records.

use std::collections::VecDeque;

use super::{Layout, Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::index::{Addition, Life, additions};
use crate::key::Key;
use crate::path::Path;

/// How many records one round writes: few enough that other operations in the same pipeline hardly
/// wait.
const CHUNK: usize = 512;

/// Writes records: first their index, then their values, so that a crash in between leaves at worst
/// a member without a value, never a value that `all` cannot find.
#[derive(Debug)]
pub struct Put {
    chunks: VecDeque<Chunk>,
    life: Life,
}

/// What one round writes.
#[derive(Debug)]
struct Chunk {
    records: Vec<(Path, Vec<u8>)>,
    additions: Vec<Addition>,
}

impl Put {
    /// Writes values, each an external term. Fails on a value that could not be read back.
    pub fn new(records: Vec<(Key, Vec<u8>)>, life: Life, layout: Layout) -> Result<Self, Error> {
        for (_, value) in &records {
            etf::check(value).map_err(ErrorKind::Value)?;
        }
        let mut records = records
            .into_iter()
            .map(|(key, value)| (key.path(), value))
            .peekable();
        let mut chunks = VecDeque::new();
        while records.peek().is_some() {
            chunks.push_back(Chunk::new(records.by_ref().take(CHUNK).collect(), layout));
        }
        Ok(Self { chunks, life })
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        if let Some(chunk) = self.chunks.front() {
            chunk.write(self.life, round);
        }
    }

    pub(super) fn read(&mut self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        self.chunks.pop_front();
        Ok(if self.chunks.is_empty() {
            Step::Done(Outcome::Done)
        } else {
            Step::Again
        })
    }
}

impl Chunk {
    fn new(records: Vec<(Path, Vec<u8>)>, layout: Layout) -> Self {
        let additions = match layout {
            Layout::Indexed => additions(records.iter().map(|(path, _)| path)),
            Layout::Plain => Vec::new(),
        };
        Self { records, additions }
    }

    fn write(&self, life: Life, round: &mut Round<'_>) {
        for addition in &self.additions {
            addition.write_purge(life, round.now_ms, round.purges, round.commands);
            addition.write(life, round.now_ms, round.commands);
        }
        for (path, value) in &self.records {
            round.commands.push("SET", |command| {
                command.arg(path.as_bytes()).arg(value);
                if let Life::Milliseconds(ms) = life {
                    command.arg("PX").arg(ms);
                }
            });
        }
    }
}
