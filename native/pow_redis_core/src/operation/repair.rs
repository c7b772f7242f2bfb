//! Removing stale entries from the index.

use std::sync::Arc;

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;

/// The most members of one repair. The next `all` finds the others.
const MAX_MEMBERS: usize = 4_096;

/// Removes index entries whose value no longer exists.
///
/// An entry without a value may belong to a put in flight, which writes the index first. Therefore a repair
/// runs only after all puts of that time have ended. It checks the entries again, and removes those that
/// are unchanged. If a value returns between the check and the
/// removal, its entry is restored.
#[derive(Debug)]
pub struct Repair {
    stale: Vec<StaleEntry>,
    stage: RepairStage,
}

/// An index entry whose value did not exist.
#[derive(Debug)]
pub(super) struct StaleEntry {
    pub(super) set: Arc<[u8]>,
    pub(super) member: Vec<u8>,
    pub(super) redis_key: Vec<u8>,
    pub(super) score: Vec<u8>,
}

#[derive(Debug)]
enum RepairStage {
    Check,
    Remove,
    /// The entries whose values have returned, with the values' TTL.
    Restore(Vec<(StaleEntry, Ttl)>),
}

impl Repair {
    pub(super) fn new(mut stale: Vec<StaleEntry>) -> Option<Self> {
        stale.truncate(MAX_MEMBERS);
        (!stale.is_empty()).then_some(Self {
            stale,
            stage: RepairStage::Check,
        })
    }

    /// A repair of an index set with one stale entry.
    #[cfg(test)]
    pub(crate) fn of_set(set: &str) -> Self {
        Self {
            stale: vec![StaleEntry {
                set: set.as_bytes().into(),
                member: b"member".to_vec(),
                redis_key: b"key".to_vec(),
                score: b"5".to_vec(),
            }],
            stage: RepairStage::Check,
        }
    }

    /// Whether another repair is for the same index set.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let set = |repair: &Self| repair.stale.first().map(|stale| stale.set.clone());
        set(self) == set(other)
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        match &self.stage {
            RepairStage::Check => {
                for stale in &self.stale {
                    context.commands.push("ZSCORE", &stale.set, |command| {
                        command.arg(&stale.member);
                    });
                    context.commands.push("EXISTS", &stale.redis_key, |_| ());
                }
            }
            RepairStage::Remove => {
                for stale in &self.stale {
                    context.commands.push("ZREM", &stale.set, |command| {
                        command.arg(&stale.member);
                    });
                    context.commands.push("PTTL", &stale.redis_key, |_| ());
                }
            }
            RepairStage::Restore(returned) => {
                for (stale, ttl) in returned {
                    context.commands.push("ZADD", &stale.set, |command| {
                        command.arg("NX");
                        ttl.write_score(context.now_ms, command);
                        command.arg(&stale.member);
                    });
                    // A set that was empty meanwhile has lost its TTL.
                    ttl.write_pexpire(&stale.set, context.commands);
                }
            }
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        let stale = std::mem::take(&mut self.stale);
        self.stage = match self.stage {
            RepairStage::Check => {
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
                RepairStage::Remove
            }
            RepairStage::Remove => {
                let mut returned = Vec::new();
                for stale in stale {
                    replies.next_integer()?;
                    if let Some(ttl) = Ttl::from_pttl(replies.next_integer()?) {
                        returned.push((stale, ttl));
                    }
                }
                if returned.is_empty() {
                    return Ok(Step::Done(Outcome::Done));
                }
                RepairStage::Restore(returned)
            }
            RepairStage::Restore(_) => {
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
            redis_key: format!("key-{member}").into_bytes(),
            score: b"5".to_vec(),
        }
    }

    fn repair(members: &[&str]) -> Driver {
        let stale = members.iter().map(|member| stale("set", member));
        Driver::new(Operation::Repair(Repair::new(stale.collect()).unwrap()))
    }

    /// The replies to the check of a member that is still stale.
    fn unchanged() -> [Value; 2] {
        [bulk("5"), Value::Int(0)]
    }

    #[test]
    fn removes_members_that_are_still_stale() {
        let mut driver = repair(&["a", "b", "c", "d"]);
        let check = ["a", "b", "c", "d"].map(|member| {
            [
                format!("ZSCORE set {member}"),
                format!("EXISTS key-{member}"),
            ]
        });
        assert_eq!(driver.write(), check.as_flattened());
        let put_again = [bulk("6"), Value::Int(0)];
        let has_value = [bulk("5"), Value::Int(1)];
        let removed = [Value::Nil, Value::Int(0)];
        driver.again([unchanged(), put_again, has_value, removed].concat());
        assert_eq!(driver.write(), ["ZREM set a", "PTTL key-a"]);
        let outcome = driver.done(vec![Value::Int(1), Value::Int(-2)]);
        assert!(matches!(outcome, Outcome::Done));
    }

    #[test]
    fn removes_nothing_if_no_member_is_stale_any_more() {
        let outcome = repair(&["a"]).done(vec![bulk("6"), Value::Int(0)]);
        assert!(matches!(outcome, Outcome::Done));
    }

    #[test]
    fn restores_members_whose_value_has_returned() {
        let mut driver = repair(&["a", "b", "c"]);
        driver.again([unchanged(), unchanged(), unchanged()].concat());
        assert_eq!(driver.write().len(), 6);
        let replies = [1, 30_000, 1, -1, 1, -2].map(Value::Int);
        driver.again(replies.to_vec());
        // The set may have been empty meanwhile, and have lost its TTL.
        let commands = [
            "ZADD set NX 1030000 a",
            "PEXPIRE set 90000 NX",
            "PEXPIRE set 90000 GT",
            "ZADD set NX +inf b",
            "PEXPIRE set 10000000000000000 NX",
            "PEXPIRE set 10000000000000000 GT",
        ];
        assert_eq!(driver.write(), commands);
        assert_eq!(driver.write(), commands, "written again");
        assert!(matches!(driver.done(okays(6)), Outcome::Done));
    }

    #[test]
    fn fails_on_an_error_reply_at_each_stage() {
        let read_only = || error("READONLY You can't write against a read only replica");
        let mut driver = repair(&["a"]);
        assert_eq!(
            driver.fails_with(vec![read_only()]),
            "redis returned READONLY"
        );
        let mut driver = repair(&["a"]);
        driver.again(unchanged().to_vec());
        assert_eq!(
            driver.fails_with(vec![read_only()]),
            "redis returned READONLY"
        );
        let mut driver = repair(&["a"]);
        driver.again(unchanged().to_vec());
        driver.again(vec![Value::Int(1), Value::Int(1)]);
        assert_eq!(
            driver.fails_with(vec![read_only()]),
            "redis returned READONLY"
        );
    }

    #[test]
    fn checks_a_bounded_number_of_members() {
        assert!(Repair::new(Vec::new()).is_none());
        let many = (0..5_000).map(|number| stale("set", &number.to_string()));
        let repair = Repair::new(many.collect()).unwrap();
        let mut driver = Driver::new(Operation::Repair(repair));
        assert_eq!(driver.write().len(), 2 * 4_096);
    }

    #[test]
    fn repairs_of_one_set_overlap() {
        let repair_of = |set| Repair::new(vec![stale(set, "a")]).unwrap();
        assert!(repair_of("set").overlaps(&repair_of("set")));
        assert!(!repair_of("set").overlaps(&repair_of("other")));
    }
}
