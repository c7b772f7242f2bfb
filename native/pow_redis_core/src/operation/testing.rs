//! Test support: running operations with replies written by hand.

use std::time::Duration;

use redis::Value;

use super::{Operation, Outcome, Step, WriteContext};
use crate::error::Error;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

pub(super) use crate::keyspace::testing::*;
pub(super) use crate::resp::testing::*;

/// The time on the server's clock.
pub(super) const NOW_MS: i64 = 1_000_000;

/// A valid value, and an invalid one.
pub(super) const VALUE: &[u8] = &[131, 97, 7];
pub(super) const FUNCTION: &[u8] = &[131, 113, 119, 1, b'm', 119, 1, b'f', 97, 1];

/// The commands that are written at [`NOW_MS`], one line each.
pub(super) fn commands_of(write: impl FnOnce(&mut WriteContext<'_>)) -> Vec<String> {
    commands_at(NOW_MS, Duration::ZERO, write)
}

fn commands_at(
    now_ms: i64,
    round_trip: Duration,
    write: impl FnOnce(&mut WriteContext<'_>),
) -> Vec<String> {
    let mut commands = Commands::new();
    write(&mut WriteContext {
        commands: &mut commands,
        now_ms,
        round_trip,
        validity: None,
    });
    let lines = lines(commands.as_bytes());
    assert_eq!(lines.len(), commands.len());
    lines
}

/// Runs an operation round by round.
pub(super) struct Driver {
    pub(super) operation: Operation,
    pub(super) now_ms: i64,
    pub(super) round_trip: Duration,
}

impl Driver {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            now_ms: NOW_MS,
            round_trip: Duration::from_millis(1),
        }
    }

    /// Writes the commands of the next round. Returns one line each.
    pub(super) fn write(&mut self) -> Vec<String> {
        let (now_ms, round_trip) = (self.now_ms, self.round_trip);
        commands_at(now_ms, round_trip, |context| self.operation.write(context))
    }

    /// Reads replies.
    pub(super) fn read(&mut self, replies: Vec<Value>) -> Result<Step, Error> {
        self.operation.read(Replies::new(replies))
    }

    /// Reads replies after which the operation needs another round.
    pub(super) fn again(&mut self, replies: Vec<Value>) {
        let step = self.read(replies);
        assert!(matches!(step, Ok(Step::Again)), "{step:?}");
    }

    /// Reads replies after which the operation is done.
    pub(super) fn done(&mut self, replies: Vec<Value>) -> Outcome {
        match self.read(replies) {
            Ok(Step::Done(outcome)) => outcome,
            step => panic!("{step:?}"),
        }
    }

    /// Reads replies that fail the operation. Returns the error.
    pub(super) fn fails_with(&mut self, replies: Vec<Value>) -> String {
        match self.read(replies) {
            Err(error) => error.to_string(),
            step => panic!("{step:?}"),
        }
    }
}
