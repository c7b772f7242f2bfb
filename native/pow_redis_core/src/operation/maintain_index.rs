//! Looking after index sets that puts have left alone.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::resp::replies::Replies;

/// Makes sets live long enough, and drops members that expired.
#[derive(Debug)]
pub struct MaintainIndex {
    /// Sets, and until when each has to live, in Unix milliseconds.
    deferred: Vec<(Vec<u8>, i64)>,
}

impl MaintainIndex {
    pub(crate) const fn new(deferred: Vec<(Vec<u8>, i64)>) -> Self {
        Self { deferred }
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        for (set, until_ms) in &self.deferred {
            let now_ms = context.now_ms;
            context
                .maintenance
                .write_deferred(set, *until_ms, now_ms, context.commands);
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

    fn maintain_index() -> Script {
        let deferred = vec![(b"s".to_vec(), NOW_MS + 1_000)];
        Script::new(Operation::MaintainIndex(MaintainIndex::new(deferred)))
    }

    #[test]
    fn purges_and_prolongs() {
        let mut script = maintain_index();
        let lines = [
            "ZREMRANGEBYSCORE s -inf 995000",
            "PEXPIRE s 61000 NX",
            "PEXPIRE s 61000 GT",
        ];
        assert_eq!(script.write(), lines);
        assert_eq!(script.write(), lines, "written again");
        assert!(matches!(script.done(okays(3)), Outcome::Done));
    }

    #[test]
    fn an_error_reply_ends_it() {
        let mut script = maintain_index();
        let replies = [okays(2), vec![error("NOPERM no permission")]].concat();
        assert_eq!(script.refused(replies), "redis answered NOPERM");
    }
}
