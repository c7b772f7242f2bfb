//! A connection on which Redis tracks what is read, and tells when it changes.
//!
//! Described at <https://redis.io/docs/latest/develop/reference/client-side-caching/>. A server tells nothing
//! more once it is no primary, is another process, has lost a slot of a cluster, or cannot reach most of it.
//! So it is asked for that regularly, and only the rounds that ask renew the trust.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster_view::ClusterView;
use super::server_info::{is_primary, run_id};
use crate::error::{Error, ErrorKind, ServerCode};
use crate::near::boot_clock;
use crate::near::{EpochEnd, Validity, Watched};
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// How many times the server is asked within the maximum staleness, so that slow answers do not end the trust.
const CHECKS: u32 = 3;

/// That a connection is to track what is read.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// What learns of the changes.
    pub validity: Arc<Validity>,
    /// Whether the server is a node of a cluster.
    pub is_cluster: bool,
}

/// What has to remain as it is while a server tracks.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The run id of a primary.
    Primary(String),
    /// The slots of all nodes, according to a node that reaches most of them.
    Node(ClusterView),
}

/// A connection that tracks.
pub(super) struct Tracker {
    tracking: Tracking,
    /// `None` in a cluster: while the worker waits for a node, it reads nothing of the others.
    _socket: Option<Watched>,
    standing: Standing,
    asked_at: Instant,
    /// When the last question that was answered was sent, in microseconds of the boot clock.
    confirmed_at: u64,
}

/// A question under way: when it was sent, in microseconds of the boot clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    sent_at: u64,
}

impl Question {
    /// How many replies it has.
    pub(super) const REPLIES: usize = 2;

    fn write(is_cluster: bool, commands: &mut Commands) -> Self {
        let questions = match is_cluster {
            true => [("CLUSTER", "NODES"), ("CLUSTER", "INFO")],
            false => [("INFO", "server"), ("INFO", "replication")],
        };
        for (name, argument) in questions {
            commands.push_keyless(name, |command| {
                command.arg(argument);
            });
        }
        Self {
            sent_at: boot_clock::now_us(),
        }
    }
}

impl Standing {
    /// Reads what a server answers. Fails if it is not one to ask.
    fn read(is_cluster: bool, replies: &mut Replies) -> Result<Self, Error> {
        if is_cluster {
            let view = ClusterView::read(replies)?;
            let info = replies.next_bytes()?.unwrap_or_default();
            let reaches_most = info
                .split(|byte| *byte == b'\n')
                .any(|line| line.trim_ascii_end() == b"cluster_state:ok");
            let cluster_down = ErrorKind::Server(ServerCode::cluster_down());
            return Ok(reaches_most
                .then_some(Self::Node(view))
                .ok_or(cluster_down)?);
        }
        let server = replies.next_bytes()?.unwrap_or_default();
        let replication = replies.next_bytes()?.unwrap_or_default();
        let run_id = run_id(&server).ok_or(ErrorKind::Protocol)?;
        let read_only = ErrorKind::Server(ServerCode::read_only());
        let primary = Self::Primary(run_id.to_owned());
        Ok(is_primary(&replication)
            .then_some(primary)
            .ok_or(read_only)?)
    }
}

impl Tracker {
    /// Appends the commands after which a connection tracks.
    pub(super) fn write(tracking: &Tracking, commands: &mut Commands) -> Question {
        commands.push_keyless("HELLO", |command| {
            command.arg(3);
        });
        // With NOLOOP, the server would not tell of keys that it stops tracking while it runs our commands.
        commands.push_keyless("CLIENT", |command| {
            command.arg("TRACKING").arg("ON");
        });
        Question::write(tracking.is_cluster, commands)
    }

    /// Reads the replies. Fails if the server refuses.
    pub(super) fn read(
        tracking: &Tracking,
        question: Question,
        replies: &mut Replies,
        socket: BorrowedFd<'_>,
    ) -> Result<Self, Error> {
        replies.next_value()?;
        replies.next_value()?;
        let watch = || tracking.validity.arrivals().watch(socket);
        let socket = (!tracking.is_cluster).then(watch);
        Ok(Self {
            tracking: tracking.clone(),
            standing: Standing::read(tracking.is_cluster, replies)?,
            _socket: socket.transpose()?,
            asked_at: Instant::now(),
            confirmed_at: question.sent_at,
        })
    }

    /// Asks whether the server is still the one to ask, if it is time to. Returns what was asked.
    pub(super) fn ask(&mut self, commands: &mut Commands, now: Instant) -> Option<Question> {
        if now < self.asked_at + interval(&self.tracking.validity) {
            return None;
        }
        self.asked_at = now;
        Some(Question::write(self.tracking.is_cluster, commands))
    }

    /// Reads the answer. If the server is not the one any more, nothing that was read is valid.
    pub(super) fn take_answer(
        &mut self,
        question: Question,
        replies: &mut Replies,
    ) -> Result<(), Error> {
        let (is_cluster, validity) = (self.tracking.is_cluster, &self.tracking.validity);
        match Standing::read(is_cluster, replies) {
            Ok(standing) if standing == self.standing => {}
            Ok(standing @ Standing::Node(_)) => {
                self.standing = standing;
                validity.restart(EpochEnd::SlotsMoved);
            }
            _ => {
                validity.end(EpochEnd::Demoted);
                return Err(ErrorKind::Disconnected.into());
            }
        }
        self.confirmed_at = question.sent_at;
        Ok(())
    }

    /// When the last question that was answered was sent, in microseconds of the boot clock.
    pub(super) const fn confirmed_at(&self) -> u64 {
        self.confirmed_at
    }
}

/// How often a server is asked.
pub(crate) fn interval(validity: &Validity) -> Duration {
    validity.max_staleness() / CHECKS
}

#[cfg(test)]
mod tests;
