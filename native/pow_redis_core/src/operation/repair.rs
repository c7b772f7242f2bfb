//! Removing members without a value from the index.

use std::sync::Arc;

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;

/// Most members looked at together; the next `all` finds the others.
const MAX_MEMBERS: usize = 4_096;

/// Removes members of index sets whose value is gone.
///
/// A member without a value may belong to a put that is under way, since the index comes first. So
/// a repair runs only once no put of that time can be under way any more, looks again, and removes
/// what is unchanged. Should the value come back at that very moment, the member does too.
#[derive(Debug)]
pub struct Repair {
    stale: Vec<StaleEntry>,
    stage: Stage,
}

/// A member whose value was missing.
#[derive(Debug)]
pub(super) struct StaleEntry {
    pub(super) set: Arc<[u8]>,
    pub(super) member: Vec<u8>,
    pub(super) redis_key: Vec<u8>,
    pub(super) score: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Look,
    Remove,
    /// With the time each value has left to live.
    Restore(Vec<(StaleEntry, Ttl)>),
}

/// What `PTTL` answers for a key that is not there.
const GONE: i64 = -2;

impl Repair {
    pub(super) fn new(mut stale: Vec<StaleEntry>) -> Option<Self> {
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

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        match &self.stage {
            Stage::Look => {
                for stale in &self.stale {
                    context.commands.push("ZSCORE", &stale.set, |command| {
                        command.arg(&stale.member);
                    });
                    context.commands.push("EXISTS", &stale.redis_key, |_| ());
                }
            }
            Stage::Remove => {
                for stale in &self.stale {
                    context.commands.push("ZREM", &stale.set, |command| {
                        command.arg(&stale.member);
                    });
                    context.commands.push("PTTL", &stale.redis_key, |_| ());
                }
            }
            Stage::Restore(returned) => {
                for (stale, ttl) in returned {
                    context.commands.push("ZADD", &stale.set, |command| {
                        command.arg("NX");
                        ttl.write_score(context.now_ms, command);
                        command.arg(&stale.member);
                    });
                    // The set may have been empty, and so gone with its expiry.
                    ttl.write_pexpire(&stale.set, context.commands);
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
                        ..0 => returned.push((stale, Ttl::Persistent)),
                        ms => returned.push((stale, Ttl::Millis(ms))),
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
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    fn stale(set: &str, member: &str) -> StaleEntry {
        StaleEntry {
            set: set.as_bytes().into(),
            member: member.as_bytes().to_vec(),
            redis_key: format!("redis_key-{member}").into_bytes(),
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
                format!("EXISTS redis_key-{member}"),
            ]
        });
        assert_eq!(script.write(), look.as_flattened());
        let put_again = [bulk("6"), Value::Int(0)];
        let has_value = [bulk("5"), Value::Int(1)];
        let removed = [Value::Nil, Value::Int(0)];
        script.again([unchanged(), put_again, has_value, removed].concat());
        assert_eq!(script.write(), ["ZREM set a", "PTTL redis_key-a"]);
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
