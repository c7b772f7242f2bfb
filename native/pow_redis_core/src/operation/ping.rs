//! Is anybody there?

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::resp::replies::Replies;

/// Waits for any answer to `PING`.
#[derive(Debug)]
pub struct Ping;

impl Ping {
    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        context.commands.push_keyless("PING", |_| ());
    }

    pub(super) fn read(&self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        Ok(Step::Done(Outcome::Done))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Script, error};
    use super::super::{Operation, Outcome};
    use super::Ping;
    use redis::Value;

    #[test]
    fn any_answer_but_an_error() {
        let mut script = Script::new(Operation::Ping(Ping));
        assert_eq!(script.write(), ["PING"]);
        let pong = Value::SimpleString("PONG".to_owned());
        assert!(matches!(script.done(vec![pong]), Outcome::Done));
        let refused = script.refused(vec![error("NOPERM no permission")]);
        assert_eq!(refused, "redis answered NOPERM");
    }
}
