//! Test support: running operations with replies written by hand.

#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::{Operation, Outcome, Step, WriteContext};
use crate::error::Error;
use crate::keyspace::index::Index;
use crate::keyspace::layout::Layout;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;
use crate::seal::testing::sealing;

pub(super) use crate::keyspace::testing::*;
use crate::resp::testing::words as words_of;
pub(super) use crate::resp::testing::*;

/// The time on the server's clock.
pub(super) const NOW_MS: i64 = 1_000_000;

/// A valid value, and an invalid one.
pub(super) const VALUE: &[u8] = &[131, 97, 7];
pub(super) const FUNCTION: &[u8] = &[131, 113, 119, 1, b'm', 119, 1, b'f', 97, 1];

/// One server, without index sets, with values sealed by the key `"a"`.
pub(super) fn sealed() -> Arc<Layout> {
    let layout = Layout::standalone(Index::Patterns(Vec::new()));
    Arc::new(layout.with_keyring(sealing(&["a"])))
}

/// What is stored as [`VALUE`] of the key with these parts, sealed by the key `"a"`.
pub(super) fn sealed_value(parts: &[&[u8]], expires_ms: i64) -> Vec<u8> {
    let redis_key = key(parts).redis_key();
    let keyring = sealing(&["a"]);
    let sealed = keyring.seal(redis_key.as_bytes(), expires_ms, VALUE);
    sealed.into_owned()
}

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

    /// Writes the commands of the next round. Returns the words of each.
    pub(super) fn write_words(&mut self) -> Vec<Vec<Vec<u8>>> {
        let mut commands = Commands::new();
        self.operation.write(&mut WriteContext {
            commands: &mut commands,
            now_ms: self.now_ms,
            round_trip: self.round_trip,
            validity: None,
        });
        let words = |command: Vec<&[u8]>| command.into_iter().map(<[u8]>::to_vec).collect();
        words_of(commands.as_bytes())
            .into_iter()
            .map(words)
            .collect()
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
