//! Removing members without a value from the index.

use std::sync::Arc;

use super::{Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::Error;
use crate::index::{Life, write_life};

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
    pub(super) set: Arc<[u8]>,
    pub(super) member: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) score: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Look,
    Remove,
    /// With the time each value has left to live.
    Restore(Vec<(Stale, Life)>),
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
                        command.arg(&*stale.set).arg(&stale.member);
                    });
                    round.commands.push("EXISTS", |command| {
                        command.arg(&stale.path);
                    });
                }
            }
            Stage::Remove => {
                for stale in &self.stale {
                    round.commands.push("ZREM", |command| {
                        command.arg(&*stale.set).arg(&stale.member);
                    });
                    round.commands.push("PTTL", |command| {
                        command.arg(&stale.path);
                    });
                }
            }
            Stage::Restore(returned) => {
                for (stale, life) in returned {
                    round.commands.push("ZADD", |command| {
                        command.arg(&*stale.set).arg("NX");
                        life.write_score(round.now_ms, command);
                        command.arg(&stale.member);
                    });
                    // The set may have been empty, and so gone with its expiry.
                    write_life(&stale.set, *life, round.commands);
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
                    match replies.next_integer()? {
                        GONE => {}
                        ..0 => returned.push((stale, Life::Infinite)),
                        ms => returned.push((stale, Life::Milliseconds(ms))),
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

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::script::*;
    use super::*;
    use redis::Value;

    fn stale(set: &str, member: &str) -> Stale {
        Stale {
            set: set.as_bytes().into(),
            member: member.as_bytes().to_vec(),
            path: format!("path-{member}").into_bytes(),
            score: b"5".to_vec(),
        }
    }

    fn repair(members: &[&str]) -> Script {
        let stale = members.iter().map(|member| stale("set", member));
        Script::new(Operation::Repair(Repair::new(stale.collect()).unwrap()))
    }

    /// Replies to the first round of a member that is as stale as it was.
    fn unchanged() -> [Value; 2] {
        [bulk("5"), Value::Int(0)]
    }

    #[test]
    fn removes_what_is_as_stale_as_it_was() {
        let mut script = repair(&["a", "b", "c", "d"]);
        let look = ["a", "b", "c", "d"].map(|member| {
            [
                format!("ZSCORE set {member}"),
                format!("EXISTS path-{member}"),
            ]
        });
        assert_eq!(script.write(), look.as_flattened());
        let put_again = [bulk("6"), Value::Int(0)];
        let has_value = [bulk("5"), Value::Int(1)];
        let removed = [Value::Nil, Value::Int(0)];
        script.again([unchanged(), put_again, has_value, removed].concat());
        assert_eq!(script.write(), ["ZREM set a", "PTTL path-a"]);
        let outcome = script.done(vec![Value::Int(1), Value::Int(-2)]);
        assert!(matches!(outcome, Outcome::Done));
    }

    #[test]
    fn ends_early_where_nothing_is_stale_any_more() {
        let outcome = repair(&["a"]).done(vec![bulk("6"), Value::Int(0)]);
        assert!(matches!(outcome, Outcome::Done));
    }

    #[test]
    fn what_comes_back_at_the_last_moment_is_listed_again() {
        let mut script = repair(&["a", "b", "c"]);
        script.again([unchanged(), unchanged(), unchanged()].concat());
        assert_eq!(script.write().len(), 6);
        let replies = [1, 30_000, 1, -1, 1, -2].map(Value::Int);
        script.again(replies.to_vec());
        // The set was empty in between, and its expiry is gone with it.
        let commands = [
            "ZADD set NX 1030000 a",
            "PEXPIRE set 90000 NX",
            "PEXPIRE set 90000 GT",
            "ZADD set NX +inf b",
            "PEXPIRE set 10000000000000000 NX",
            "PEXPIRE set 10000000000000000 GT",
        ];
        assert_eq!(script.write(), commands);
        assert_eq!(script.write(), commands, "written again");
        assert!(matches!(script.done(okays(6)), Outcome::Done));
    }

    #[test]
    fn an_error_reply_ends_it_at_each_stage() {
        let denied = || error("READONLY You can't write against a read only replica");
        let mut script = repair(&["a"]);
        assert_eq!(script.refused(vec![denied()]), "redis answered READONLY");
        let mut script = repair(&["a"]);
        script.again(unchanged().to_vec());
        assert_eq!(script.refused(vec![denied()]), "redis answered READONLY");
        let mut script = repair(&["a"]);
        script.again(unchanged().to_vec());
        script.again(vec![Value::Int(1), Value::Int(1)]);
        assert_eq!(script.refused(vec![denied()]), "redis answered READONLY");
    }

    #[test]
    fn looks_at_a_bounded_number_of_members() {
        assert!(Repair::new(Vec::new()).is_none());
        let many = (0..5_000).map(|number| stale("set", &number.to_string()));
        let repair = Repair::new(many.collect()).unwrap();
        let mut script = Script::new(Operation::Repair(repair));
        assert_eq!(script.write().len(), 2 * 4_096);
    }

    #[test]
    fn repairs_of_one_set_overlap() {
        let of = |set| Repair::new(vec![stale(set, "a")]).unwrap();
        assert!(of("set").overlaps(&of("set")));
        assert!(!of("set").overlaps(&of("other")));
    }
}
