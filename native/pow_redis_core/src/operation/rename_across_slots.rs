//! Renaming legacy keys on a cluster, where the canonical key has another slot.

use super::WriteContext;
use super::reindex_key::ReindexKey;
use crate::error::Error;
use crate::keyspace::redis_key::RedisKey;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;

/// How long a copy lives until it is confirmed, in milliseconds.
const UNCONFIRMED_MS: i64 = 10_000;

/// Copies values to their canonical keys with their remaining time, then deletes the legacy keys.
///
/// It may be interrupted at any command, and other clients may write and delete meanwhile. A copy is
/// confirmed only if the legacy key still has the same value after the copy was made: a client that deletes
/// the legacy key later deletes the canonical one after it. A copy that is not confirmed expires by itself.
/// It is never deleted, since the key may have been put meanwhile.
#[derive(Debug)]
pub(super) struct RenameAcrossSlots {
    renames: Vec<Rename>,
    stage: RenameStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RenameStage {
    Read,
    Copy,
    Compare,
    Confirm,
    Delete,
}

#[derive(Debug)]
struct Rename {
    legacy: RedisKey,
    canonical: RedisKey,
    /// The legacy index entries: names of sets, and members.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    value: Vec<u8>,
    ttl: Ttl,
    /// Whether the canonical key has another, newer value.
    is_superseded: bool,
}

impl RenameAcrossSlots {
    /// Renames the legacy ones of these keys. Returns `None` if there are none.
    pub(super) fn new(keys: &[ReindexKey]) -> Option<Self> {
        let renames: Vec<_> = keys
            .iter()
            .filter_map(|key| {
                Some(Rename {
                    legacy: key.legacy.clone()?,
                    canonical: key.redis_key.clone(),
                    entries: key.legacy_entries(),
                    value: Vec::new(),
                    ttl: key.ttl,
                    is_superseded: false,
                })
            })
            .collect();
        (!renames.is_empty()).then_some(Self {
            renames,
            stage: RenameStage::Read,
        })
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        for rename in &self.renames {
            rename.write(self.stage, context);
        }
    }

    /// Reads the replies of a round. Returns the number of renamed keys, in the last round.
    pub(super) fn read(&mut self, replies: &mut Replies) -> Result<Option<u64>, Error> {
        let mut renames = Vec::new();
        for mut rename in std::mem::take(&mut self.renames) {
            if rename.read(self.stage, replies)? {
                renames.push(rename);
            }
        }
        self.renames = renames;
        self.stage = match self.stage {
            _ if self.renames.is_empty() => return Ok(Some(0)),
            RenameStage::Read => RenameStage::Copy,
            RenameStage::Copy => RenameStage::Compare,
            RenameStage::Compare => RenameStage::Confirm,
            RenameStage::Confirm => RenameStage::Delete,
            RenameStage::Delete => {
                let renamed = self.renames.len();
                return Ok(Some(u64::try_from(renamed).unwrap_or(u64::MAX)));
            }
        };
        Ok(None)
    }
}

impl Rename {
    fn write(&self, stage: RenameStage, context: &mut WriteContext<'_>) {
        let commands = &mut *context.commands;
        let (legacy, canonical) = (self.legacy.as_bytes(), self.canonical.as_bytes());
        match stage {
            RenameStage::Read => {
                commands.push("GET", legacy, |_| ());
                commands.push("PTTL", legacy, |_| ());
            }
            RenameStage::Copy => commands.push("SET", canonical, |command| {
                let ms = self.ttl.min_ms(UNCONFIRMED_MS);
                command.arg(&self.value).arg("PX").arg(ms).arg("NX");
            }),
            RenameStage::Compare => {
                commands.push("GET", legacy, |_| ());
                commands.push("GET", canonical, |_| ());
            }
            RenameStage::Confirm => {
                if !self.is_superseded {
                    self.ttl.write_lengthen(canonical, commands);
                }
                commands.push("PTTL", canonical, |_| ());
            }
            RenameStage::Delete => {
                commands.push("DEL", legacy, |_| ());
                for (set, member) in &self.entries {
                    commands.push("ZREM", set, |command| {
                        command.arg(member);
                    });
                }
            }
        }
    }

    /// Reads the replies to [`write`](Self::write). Returns whether to go on with the key.
    fn read(&mut self, stage: RenameStage, replies: &mut Replies) -> Result<bool, Error> {
        match stage {
            RenameStage::Read => {
                let value = replies.next_bytes()?;
                let ttl = Ttl::from_pttl(replies.next_integer()?);
                let Some((value, ttl)) = value.zip(ttl) else {
                    return Ok(false);
                };
                (self.value, self.ttl) = (value, ttl);
                Ok(true)
            }
            RenameStage::Copy => replies.next_value().map(|_| true),
            RenameStage::Compare => {
                let legacy = replies.next_bytes()?;
                let canonical = replies.next_bytes()?;
                self.is_superseded = canonical.as_ref().is_some_and(|own| *own != self.value);
                Ok(legacy.as_ref() == Some(&self.value) && canonical.is_some())
            }
            RenameStage::Confirm => {
                let is_longer = !self.is_superseded && replies.next_integer()? == 1;
                let left = Ttl::from_pttl(replies.next_integer()?);
                let is_confirmed = |ttl: Ttl| ttl.min_ms(UNCONFIRMED_MS) == UNCONFIRMED_MS;
                let is_short = !is_confirmed(self.ttl);
                Ok(left.is_some_and(|left| {
                    self.is_superseded || is_longer || is_short || is_confirmed(left)
                }))
            }
            RenameStage::Delete => {
                replies.next_integer()?;
                for _ in &self.entries {
                    replies.next_value()?;
                }
                Ok(true)
            }
        }
    }
}
