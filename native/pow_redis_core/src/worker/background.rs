//! Work that no caller waits for: repairing the index and maintaining its sets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::keyspace::index_maintenance::IndexMaintenance;
use crate::operation::{MaintainIndex, Operation, Repair};

/// How many repairs may wait. The next `all` finds again what is dropped.
const MAX_REPAIRS: usize = 64;

/// Repairs and index maintenance, each with the time at which it is due.
#[derive(Debug)]
pub(crate) struct Background {
    pub(super) maintenance: IndexMaintenance,
    repairs: VecDeque<(Instant, Repair)>,
    repair_delay: Duration,
}

impl Background {
    /// Repairs are due `repair_delay` after they were found.
    pub(crate) fn new(repair_delay: Duration) -> Self {
        Self {
            maintenance: IndexMaintenance::default(),
            repairs: VecDeque::new(),
            repair_delay,
        }
    }

    /// Keeps a repair, unless one of the same index sets is waiting.
    pub(crate) fn push_repair(&mut self, repair: Repair) {
        let mut waiting = self.repairs.iter();
        if self.repairs.len() < MAX_REPAIRS && !waiting.any(|(_, other)| other.overlaps(&repair)) {
            let due = Instant::now() + self.repair_delay;
            self.repairs.push_back((due, repair));
        }
    }

    /// When the next operation is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let repair = self.repairs.front().map(|(due, _)| *due);
        repair.into_iter().chain(self.maintenance.next_due()).min()
    }

    /// Whether index sets still need maintenance. Repairs may be dropped.
    pub(crate) const fn is_unfinished(&self) -> bool {
        self.maintenance.next_due().is_some()
    }

    /// Takes an operation that is due; with `closing`, maintenance is due at once.
    pub(crate) fn take_due(&mut self, closing: bool) -> Option<Operation> {
        let now = Instant::now();
        if self.repairs.front().is_some_and(|(due, _)| *due <= now) {
            let (_, repair) = self.repairs.pop_front()?;
            return Some(Operation::Repair(repair));
        }
        let due = self.maintenance.next_due()?;
        (closing || due <= now).then(|| {
            let deferred = self.maintenance.take_deferred();
            Operation::MaintainIndex(MaintainIndex::new(deferred))
        })
    }
}
