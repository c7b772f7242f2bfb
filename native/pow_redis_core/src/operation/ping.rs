//! Checking the connection.

use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::resp::replies::Replies;

/// Sends `PING` and waits for the reply.
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
    use super::super::testing::{Driver, error};
    use super::super::{Operation, Outcome};
    use super::Ping;
    use redis::Value;

    #[test]
    fn accepts_any_reply_but_an_error() {
        let mut driver = Driver::new(Operation::Ping(Ping));
        assert_eq!(driver.write(), ["PING"]);
        let pong = Value::SimpleString("PONG".to_owned());
        assert!(matches!(driver.done(vec![pong]), Outcome::Done));
        let message = driver.fails_with(vec![error("NOPERM no permission")]);
        assert_eq!(message, "redis returned NOPERM");
    }
}
