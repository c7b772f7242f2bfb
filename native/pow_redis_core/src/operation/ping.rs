//! Is anybody there?

use super::{Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::Error;

/// Waits for any answer to `PING`.
#[derive(Debug)]
pub struct Ping;

impl Ping {
    pub(super) fn write(&self, round: &mut Round<'_>) {
        round.commands.push("PING", |_| ());
    }

    pub(super) fn read(&self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        Ok(Step::Done(Outcome::Done))
    }
}
