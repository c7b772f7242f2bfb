//! The value of one key.

use super::{Outcome, Round, Step};
use crate::commands::Replies;
use crate::error::Error;
use crate::etf;
use crate::key::Key;
use crate::path::Path;

/// Reads the value of one key: in its canonical form, and where that is missing in the form that
/// Pow's guide wrote on Erlang/OTP 25 and earlier.
#[derive(Debug)]
pub struct Get {
    key: Key,
    path: Path,
    legacy: bool,
}

impl Get {
    /// Reads `key`.
    pub fn new(key: Key) -> Self {
        Self {
            path: key.path(),
            key,
            legacy: false,
        }
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        round.commands.push("GET", |command| {
            command.arg(self.path.as_bytes());
        });
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        if let Some(value) = replies.next_bytes()? {
            return Ok(Step::Done(match etf::check(&value) {
                Ok(()) => Outcome::Value(value),
                Err(error) => Outcome::Refused(error),
            }));
        }
        let legacy_path = if self.legacy {
            None
        } else {
            self.key.legacy_path()
        };
        Ok(match legacy_path {
            Some(path) => {
                self.path = path;
                self.legacy = true;
                Step::Again
            }
            None => Step::Done(Outcome::NotFound),
        })
    }
}
