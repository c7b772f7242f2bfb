//! The connection to one server, and its endpoint.

use std::collections::VecDeque;
use std::time::Instant;

use redis::Value;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::fence::Fence;
use super::patience::Patience;
use super::primary_watch::PrimaryWatch;
use super::sentinel::Primary;
use crate::error::{Error, ErrorKind};

/// The connection to one server, and the replies that have been received and not yet taken.
pub(crate) struct Standalone {
    pub(super) endpoint: Endpoint,
    pub(super) connection: Connection,
    replies: VecDeque<Value>,
    /// The epoch of the configuration in which sentinels named the server.
    config_epoch: Option<u64>,
}

impl Standalone {
    /// Connects, and ends what lost connections left behind.
    pub(super) fn open(
        endpoint: &Endpoint,
        fence: &Fence,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let connection = Connection::open_fenced(endpoint, fence, deadline)?;
        Ok(Self::new(endpoint.clone(), connection))
    }

    /// A connection that is logged in.
    pub(crate) const fn new(endpoint: Endpoint, connection: Connection) -> Self {
        Self {
            endpoint,
            connection,
            replies: VecDeque::new(),
            config_epoch: None,
        }
    }

    /// The same, with the epoch of the configuration in which sentinels named the server.
    pub(super) fn in_epoch(self, config_epoch: u64) -> Self {
        Self {
            config_epoch: Some(config_epoch),
            ..self
        }
    }

    /// Whether the sentinels name another primary now.
    pub(super) fn is_superseded(&self, watch: &PrimaryWatch) -> bool {
        let address = &self.endpoint.address;
        self.config_epoch
            .is_some_and(|epoch| watch.superseded(address, epoch))
    }

    /// Tells the watch which primary the sentinels have named, so that other connections leave an older one.
    pub(super) fn tell(&self, watch: &PrimaryWatch) {
        if let Some(config_epoch) = self.config_epoch {
            let address = self.endpoint.address.clone();
            watch.note(Primary {
                address,
                config_epoch,
            });
        }
    }

    /// The next reply. Replies are received a round at a time.
    pub(super) fn receive(&mut self, patience: Patience) -> Result<Value, Error> {
        if self.replies.is_empty() {
            self.replies = self.connection.receive_round(patience)?.into();
        }
        self.replies
            .pop_front()
            .ok_or_else(|| ErrorKind::Protocol.into())
    }

    /// Whether a reply, or part of one, is buffered.
    pub(super) fn has_buffered(&self) -> bool {
        !self.replies.is_empty() || self.connection.has_buffered()
    }
}
