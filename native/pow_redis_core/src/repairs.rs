//! Repairs that wait for their time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::operation::Repair;

/// Most repairs that wait; the next `all` finds again what is dropped.
const MAX_REPAIRS: usize = 64;

/// Repairs, each with the time at which it is due.
#[derive(Debug)]
pub(crate) struct Repairs {
    delay: Duration,
    waiting: VecDeque<(Instant, Repair)>,
}

impl Repairs {
    /// Repairs are due so long after they were found.
    pub(crate) const fn new(delay: Duration) -> Self {
        Self {
            delay,
            waiting: VecDeque::new(),
        }
    }

    /// Keeps a repair, unless one for the same index sets waits already.
    pub(crate) fn keep(&mut self, repair: Option<Repair>) {
        let Some(repair) = repair else {
            return;
        };
        let known = self
            .waiting
            .iter()
            .any(|(_, other)| other.overlaps(&repair));
        if !known && self.waiting.len() < MAX_REPAIRS {
            self.waiting
                .push_back((Instant::now() + self.delay, repair));
        }
    }

    /// When the first one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Takes one that is due.
    pub(crate) fn take_due(&mut self) -> Option<Repair> {
        self.next_due().filter(|due| *due <= Instant::now())?;
        self.waiting.pop_front().map(|(_, repair)| repair)
    }
}
