//! Bringing what lies in Redis into our form.

use super::{Layout, Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::{Error, ErrorKind};
use crate::index::{Life, write_life};
use crate::key::Key;
use crate::path::Path;

/// About how many keys one round looks at.
const PAGE: u32 = 512;

/// Looks at one page of all keys: puts into the index what is missing there, and renames keys whose
/// atoms are in the form of Erlang/OTP 25 and earlier.
#[derive(Debug)]
pub struct Reindex {
    start: u64,
    layout: Layout,
    next: u64,
    stage: Stage,
    entries: Vec<Entry>,
    indexed: u64,
    renamed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Scan,
    Measure,
    Write,
    /// A key was there in both forms: the old one goes.
    DropOld,
}

#[derive(Debug)]
struct Entry {
    path: Path,
    /// Where the key was found, if not there.
    old: Option<Path>,
    life: Life,
    drop_old: bool,
}

impl Reindex {
    /// Looks at the page at `cursor`, 0 for the first.
    pub const fn new(cursor: u64, layout: Layout) -> Self {
        Self {
            start: cursor,
            layout,
            next: 0,
            stage: Stage::Scan,
            entries: Vec::new(),
            indexed: 0,
            renamed: 0,
        }
    }

    pub(super) fn restart(&mut self) {
        *self = Self::new(self.start, self.layout);
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        match self.stage {
            Stage::Scan => round.commands.push("SCAN", |command| {
                command.arg(self.start).arg("COUNT").arg(PAGE);
                command.arg("TYPE").arg("string");
            }),
            Stage::Measure => {
                for entry in &self.entries {
                    let found = entry.old.as_ref().unwrap_or(&entry.path);
                    round.commands.push("PTTL", |command| {
                        command.arg(found.as_bytes());
                    });
                }
            }
            Stage::Write => {
                for entry in &self.entries {
                    self.write_entry(entry, round);
                }
            }
            Stage::DropOld => {
                for old in self.entries.iter().filter_map(Entry::dropped) {
                    round.commands.push("DEL", |command| {
                        command.arg(old.as_bytes());
                    });
                }
            }
        }
    }

    /// Index, value, and only then the old place in the index.
    fn write_entry(&self, entry: &Entry, round: &mut Round<'_>) {
        for (set, member) in entry.memberships(self.layout) {
            round.commands.push("ZADD", |command| {
                command.arg(&set).arg("GT");
                match entry.life {
                    Life::Milliseconds(ms) => command.arg(round.now_ms.saturating_add(ms)),
                    Life::Infinite => command.arg("+inf"),
                };
                command.arg(member);
            });
            write_life(&set, entry.life, round.commands);
        }
        if let Some(old) = &entry.old {
            round.commands.push("RENAMENX", |command| {
                command.arg(old.as_bytes()).arg(entry.path.as_bytes());
            });
            for (set, member) in old.memberships() {
                round.commands.push("ZREM", |command| {
                    command.arg(set).arg(member);
                });
            }
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        match self.stage {
            Stage::Scan => {
                let (next, keys) = replies.next_page()?;
                self.next = next;
                self.entries = keys.iter().filter_map(|key| Entry::found(key)).collect();
                self.stage = Stage::Measure;
            }
            Stage::Measure => {
                let mut entries = std::mem::take(&mut self.entries);
                for entry in &mut entries {
                    entry.life = match replies.next_integer()? {
                        -1 => Life::Infinite,
                        ms => Life::Milliseconds(ms),
                    };
                }
                entries.retain(|entry| entry.life != GONE);
                self.entries = entries;
                self.stage = Stage::Write;
            }
            Stage::Write => {
                let mut entries = std::mem::take(&mut self.entries);
                for entry in &mut entries {
                    self.read_entry(entry, &mut replies)?;
                }
                self.entries = entries;
                self.stage = Stage::DropOld;
            }
            Stage::DropOld => {
                replies.finish()?;
                return Ok(Step::Done(self.outcome()));
            }
        }
        let nothing_left = match self.stage {
            Stage::DropOld => self.entries.iter().all(|entry| entry.dropped().is_none()),
            _ => self.entries.is_empty(),
        };
        Ok(if nothing_left {
            Step::Done(self.outcome())
        } else {
            Step::Again
        })
    }

    fn read_entry(&mut self, entry: &mut Entry, replies: &mut Replies) -> Result<(), Error> {
        let mut added = 0;
        for _ in entry.memberships(self.layout) {
            added += replies.next_integer()?;
            let life_commands = match entry.life {
                Life::Milliseconds(_) => 2,
                Life::Infinite => 1,
            };
            for _ in 0..life_commands {
                replies.next_value()?;
            }
        }
        self.indexed += u64::from(added > 0);
        let Some(old) = &entry.old else {
            return Ok(());
        };
        match replies.next_integer() {
            Ok(renamed) => {
                self.renamed += 1;
                entry.drop_old = renamed == 0;
            }
            // It expired or was deleted meanwhile.
            Err(error) if is_plain(&error) => {}
            Err(error) => return Err(error),
        }
        for _ in old.memberships() {
            replies.next_value()?;
        }
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        Outcome::Page {
            cursor: self.next,
            keys: u64::try_from(self.entries.len()).unwrap_or(u64::MAX),
            indexed: self.indexed,
            renamed: self.renamed,
        }
    }
}

/// What `PTTL` answers for a key that is not there.
const GONE: Life = Life::Milliseconds(-2);

impl Entry {
    fn found(found: &[u8]) -> Option<Self> {
        let key = Key::from_path(found)?;
        let path = key.path();
        let old = (path.as_bytes() != found).then(|| Path::found(found));
        Some(Self {
            path,
            old,
            life: GONE,
            drop_old: false,
        })
    }

    fn memberships(&self, layout: Layout) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
        let indexed = layout == Layout::Indexed;
        self.path.memberships().filter(move |_| indexed)
    }

    fn dropped(&self) -> Option<&Path> {
        self.old.as_ref().filter(|_| self.drop_old)
    }
}

fn is_plain(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "ERR")
}
