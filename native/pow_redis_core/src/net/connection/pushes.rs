//! What the server tells a connection about changed keys, between replies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::super::endpoint::Endpoint;
use super::super::stream::Stream;
use super::super::tracking::Tracker;
use super::Connection;
use crate::error::Error;
use crate::resp::commands::Commands;

impl Connection {
    /// Lets the server track what is read, if the endpoint is to. A server may refuse.
    pub(super) fn track(&mut self, endpoint: &Endpoint, deadline: Instant) -> Result<(), Error> {
        let Some(tracking) = &endpoint.tracking else {
            return Ok(());
        };
        let mut commands = Commands::new();
        let question = Tracker::write(tracking, &mut commands);
        // A refusal looks the same in both versions of the protocol.
        self.reader.expect_pushes(&tracking.validity);
        let mut replies = self.round_trip(&mut commands, deadline)?;
        match Tracker::read(tracking, question, &mut replies, self.stream.as_fd()) {
            Ok(tracker) => self.tracker = Some(tracker),
            Err(error) => self.tracking_refusal = Some(error),
        }
        Ok(())
    }

    /// Takes what the server has told about changed keys and has been read, if no reply is outstanding. What
    /// has arrived since wakes whoever waits for the socket.
    pub(crate) fn take_pushes(&mut self) -> Result<(), Error> {
        self.read_pushes_while(|stream| Ok(stream.has_decrypted()))
    }

    /// Takes what the server has told about changed keys, if no reply is outstanding. Does not block.
    pub(crate) fn read_pushes(&mut self) -> Result<(), Error> {
        self.read_pushes_while(Stream::has_unread)
    }

    fn read_pushes_while(
        &mut self,
        has_unread: impl Fn(&mut Stream) -> io::Result<bool>,
    ) -> Result<(), Error> {
        if self.tracker.is_none() || !self.rounds.is_empty() {
            return Ok(());
        }
        let outcome = self.reader.take_pushes().and_then(|()| {
            while has_unread(&mut self.stream)? {
                self.reader.read_pushes(&mut self.stream)?;
            }
            Ok(())
        });
        outcome.map_err(|error| self.fail(error))
    }

    /// When the server was last asked whether it is still the one to ask, and answered, in microseconds of the
    /// boot clock. `None` if it does not track.
    pub(crate) fn confirmed_at(&self) -> Option<u64> {
        self.tracker.as_ref().map(Tracker::confirmed_at)
    }

    /// Why the server does not track, though it was to.
    pub(crate) const fn tracking_refusal(&self) -> Option<&Error> {
        self.tracking_refusal.as_ref()
    }

    /// The socket, to be waited for.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
