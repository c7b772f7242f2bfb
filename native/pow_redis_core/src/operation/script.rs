//! Operations played by hand: the commands of a round as lines of text, replies as values.

use std::time::Duration;

use redis::{Value, parse_redis_value};

use super::{Operation, Outcome, Round, Step};
use crate::commands::{Commands, Replies};
use crate::error::Error;
use crate::key::Key;
use crate::pattern::Pattern;
use crate::upkeep::Upkeep;

/// What the clock shows.
pub(crate) const NOW_MS: i64 = 1_000_000;

/// The path of the namespace `"n"`.
pub(crate) const N: &str = "g20AAAABbg";
/// The path of the part `1`.
pub(crate) const ONE: &str = "g2EB";
/// The path of the part `2`.
pub(crate) const TWO: &str = "g2EC";
/// The path of the atom `a`, and where Erlang/OTP 25 and earlier wrote it.
pub(crate) const A: &str = "g3cBYQ";
pub(crate) const OLD_A: &str = "g2QAAWE";

/// Terms without their version byte.
pub(super) const INT_1: &[u8] = &[97, 1];
pub(super) const INT_2: &[u8] = &[97, 2];
pub(super) const ATOM_A: &[u8] = &[119, 1, b'a'];
pub(super) const ANY: &[u8] = &[119, 1, b'_'];
const NAMESPACE: &[u8] = &[109, 0, 0, 0, 1, b'n'];

/// A value that passes the check, and one that does not.
pub(super) const VALUE: &[u8] = &[131, 97, 7];
pub(super) const FUNCTION: &[u8] = &[131, 113, 119, 1, b'm', 119, 1, b'f', 97, 1];

/// The key of these parts in the namespace `"n"`.
pub(crate) fn key(parts: &[&[u8]]) -> Key {
    Key::from_external(&namespaced(parts)).unwrap()
}

/// The pattern of these parts in the namespace `"n"`.
pub(super) fn pattern(parts: &[&[u8]]) -> Pattern {
    Pattern::from_external(&namespaced(parts)).unwrap()
}

fn namespaced(parts: &[&[u8]]) -> Vec<u8> {
    let number = u32::try_from(parts.len() + 1).unwrap().to_be_bytes();
    [&[131, 108], &number[..], NAMESPACE, &parts.concat(), &[106]].concat()
}

/// An operation and the world it sees.
pub(super) struct Script {
    pub(super) operation: Operation,
    pub(super) upkeep: Upkeep,
    pub(super) now_ms: i64,
    pub(super) round_trip: Duration,
}

impl Script {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            upkeep: Upkeep::default(),
            now_ms: NOW_MS,
            round_trip: Duration::from_millis(1),
        }
    }

    /// The commands of the next round, a line for each.
    pub(super) fn write(&mut self) -> Vec<String> {
        let mut commands = Commands::new();
        self.operation.write(&mut Round {
            commands: &mut commands,
            now_ms: self.now_ms,
            round_trip: self.round_trip,
            upkeep: &mut self.upkeep,
        });
        let lines = lines(commands.as_bytes());
        assert_eq!(lines.len(), commands.len());
        lines
    }

    /// Reads replies.
    pub(super) fn read(&mut self, replies: Vec<Value>) -> Result<Step, Error> {
        self.operation.read(Replies::new(replies))
    }

    /// Reads replies after which the operation wants another round.
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

    /// Reads an error reply that ends the operation, and what it ends with.
    pub(super) fn refused(&mut self, replies: Vec<Value>) -> String {
        match self.read(replies) {
            Err(error) => error.to_string(),
            step => panic!("{step:?}"),
        }
    }
}

/// Each command as a line; bytes that are no text are escaped.
pub(crate) fn lines(mut packed: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while !packed.is_empty() {
        let mut words = Vec::new();
        for _ in 0..number(&mut packed, b'*') {
            let (word, rest) = packed_word(packed);
            words.push(word.escape_ascii().to_string());
            packed = rest;
        }
        lines.push(words.join(" "));
    }
    lines
}

fn packed_word(mut packed: &[u8]) -> (&[u8], &[u8]) {
    let length = number(&mut packed, b'$');
    let (word, rest) = packed.split_at(length);
    (word, rest.strip_prefix(b"\r\n").unwrap())
}

fn number(packed: &mut &[u8], sign: u8) -> usize {
    let end = packed.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let (line, rest) = packed.split_at(end);
    *packed = &rest[2..];
    assert_eq!(line[0], sign);
    std::str::from_utf8(&line[1..]).unwrap().parse().unwrap()
}

/// A string as reply.
pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::BulkString(bytes.as_ref().to_vec())
}

/// A page of a scan as reply.
pub(crate) fn page(cursor: u64, items: &[&str]) -> Value {
    let items = items.iter().map(bulk).collect();
    Value::Array(vec![bulk(cursor.to_string()), Value::Array(items)])
}

/// An error as reply.
pub(crate) fn error(line: &str) -> Value {
    parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
}

/// So many times `OK`.
pub(crate) fn okays(number: usize) -> Vec<Value> {
    vec![Value::Okay; number]
}
