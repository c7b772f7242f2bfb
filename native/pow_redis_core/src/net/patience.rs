//! How long to wait for a peer.

use std::time::{Duration, Instant};

/// How long to wait: until a deadline, and for a peer that is silent, no longer than `silence`. A peer that
/// is slow is waited for until the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub(crate) deadline: Instant,
    pub(crate) silence: Option<Duration>,
}

impl From<Instant> for Patience {
    /// Until the deadline, even for a silent peer.
    fn from(deadline: Instant) -> Self {
        Self {
            deadline,
            silence: None,
        }
    }
}
