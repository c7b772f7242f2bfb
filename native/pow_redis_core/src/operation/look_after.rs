//! Looking after index sets that puts have left alone.

use super::{Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::Error;

/// Makes sets live long enough, and drops members that expired.
#[derive(Debug)]
pub struct LookAfter {
    /// Sets, and until when each has to live, in Unix milliseconds.
    owed: Vec<(Vec<u8>, i64)>,
}

impl LookAfter {
    pub(crate) const fn new(owed: Vec<(Vec<u8>, i64)>) -> Self {
        Self { owed }
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        for (set, until_ms) in &self.owed {
            let now_ms = round.now_ms;
            round
                .upkeep
                .write_owed(set, *until_ms, now_ms, round.commands);
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
    use super::super::script::*;
    use super::*;

    fn look_after() -> Script {
        let owed = vec![(b"s".to_vec(), NOW_MS + 1_000)];
        Script::new(Operation::LookAfter(LookAfter::new(owed)))
    }

    #[test]
    fn purges_and_prolongs() {
        let mut script = look_after();
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
        let mut script = look_after();
        let replies = [okays(2), vec![error("NOPERM no permission")]].concat();
        assert_eq!(script.refused(replies), "redis answered NOPERM");
    }
}
