//! Maintaining the index sets that puts have deferred.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::index_maintenance::DeferredSet;
use crate::resp::replies::Replies;

/// Extends the TTL of index sets, and purges expired members.
#[derive(Debug)]
pub struct MaintainIndex {
    sets: Vec<DeferredSet>,
}

impl MaintainIndex {
    pub(crate) const fn new(sets: Vec<DeferredSet>) -> Self {
        Self { sets }
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        for set in &self.sets {
            context
                .maintenance
                .maintain(set, context.now_ms, context.commands);
        }
    }

    #[expect(clippy::unused_self, reason = "as in the other operations")]
    pub(super) fn read(&self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        Ok(Step::Done(Outcome::Done))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use crate::keyspace::ttl::Ttl;

    fn maintain_index() -> Driver {
        let set = DeferredSet {
            name: b"s".to_vec(),
            ttl: Ttl::Millis(1_000),
        };
        Driver::new(Operation::MaintainIndex(MaintainIndex::new(vec![set])))
    }

    #[test]
    fn purges_members_and_extends_the_ttl() {
        let mut driver = maintain_index();
        let lines = [
            "ZREMRANGEBYSCORE s -inf -85400000",
            "PEXPIRE s 61000 NX",
            "PEXPIRE s 61000 GT",
        ];
        assert_eq!(driver.write(), lines);
        assert_eq!(driver.write(), lines, "written again");
        assert!(matches!(driver.done(okays(3)), Outcome::Done));
    }

    #[test]
    fn fails_on_an_error_reply() {
        let mut driver = maintain_index();
        let replies = [okays(2), vec![error("NOPERM no permission")]].concat();
        assert_eq!(driver.fails_with(replies), "redis returned NOPERM");
    }
}
