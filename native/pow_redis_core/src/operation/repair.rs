//! Removing members without a value from the index.

use super::{Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::Error;

/// Most members looked at together; the next `all` finds the others.
const MAX_MEMBERS: usize = 4_096;

/// Removes members of index sets whose value is gone.
///
/// A member without a value may belong to a put that is under way, since the index comes first. So
/// a repair runs only once no put of that time can be under way any more, looks again, and removes
/// what is unchanged. Should the value come back at that very moment, the member does too.
#[derive(Debug)]
pub struct Repair {
    stale: Vec<Stale>,
    stage: Stage,
}

/// A member whose value was missing.
#[derive(Debug)]
pub(super) struct Stale {
    pub(super) set: Vec<u8>,
    pub(super) member: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) score: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Look,
    Remove,
    /// With the time each value has left to live, in milliseconds.
    Restore(Vec<(Stale, i64)>),
}

/// What `PTTL` answers for a key that is not there.
const GONE: i64 = -2;

impl Repair {
    pub(super) fn new(mut stale: Vec<Stale>) -> Option<Self> {
        stale.truncate(MAX_MEMBERS);
        (!stale.is_empty()).then_some(Self {
            stale,
            stage: Stage::Look,
        })
    }

    /// Whether another repair looks at the same index sets.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let set = |repair: &Self| repair.stale.first().map(|stale| stale.set.clone());
        set(self) == set(other)
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        match &self.stage {
            Stage::Look => {
                for stale in &self.stale {
                    round.commands.push("ZSCORE", |command| {
                        command.arg(&stale.set).arg(&stale.member);
                    });
                    round.commands.push("EXISTS", |command| {
                        command.arg(&stale.path);
                    });
                }
            }
            Stage::Remove => {
                for stale in &self.stale {
                    round.commands.push("ZREM", |command| {
                        command.arg(&stale.set).arg(&stale.member);
                    });
                    round.commands.push("PTTL", |command| {
                        command.arg(&stale.path);
                    });
                }
            }
            Stage::Restore(returned) => {
                for (stale, ms) in returned {
                    round.commands.push("ZADD", |command| {
                        command.arg(&stale.set).arg("NX");
                        match ms {
                            ..0 => command.arg("+inf"),
                            ms => command.arg(round.now_ms.saturating_add(*ms)),
                        };
                        command.arg(&stale.member);
                    });
                }
            }
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        let stale = std::mem::take(&mut self.stale);
        self.stage = match self.stage {
            Stage::Look => {
                for stale in stale {
                    let score = replies.next_bytes()?;
                    let exists = replies.next_integer()? != 0;
                    if score.as_ref() == Some(&stale.score) && !exists {
                        self.stale.push(stale);
                    }
                }
                if self.stale.is_empty() {
                    return Ok(Step::Done(Outcome::Done));
                }
                Stage::Remove
            }
            Stage::Remove => {
                let mut returned = Vec::new();
                for stale in stale {
                    replies.next_integer()?;
                    let ms = replies.next_integer()?;
                    if ms != GONE {
                        returned.push((stale, ms));
                    }
                }
                if returned.is_empty() {
                    return Ok(Step::Done(Outcome::Done));
                }
                Stage::Restore(returned)
            }
            Stage::Restore(_) => {
                replies.finish()?;
                return Ok(Step::Done(Outcome::Done));
            }
        };
        Ok(Step::Again)
    }
}
