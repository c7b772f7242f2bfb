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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::ttl::Ttl;
    use crate::resp::commands::Commands;

    const DELAY: Duration = Duration::from_secs(60);

    /// Defers the maintenance of a set. Returns the earliest time at which it is due.
    fn defer(background: &mut Background) -> Instant {
        let before = Instant::now();
        let mut commands = Commands::new();
        for now_ms in [0, 1] {
            let maintenance = &mut background.maintenance;
            maintenance.maintain_or_defer(b"set", Ttl::Persistent, now_ms, &mut commands);
        }
        before
    }

    #[test]
    fn keeps_one_repair_per_index_set_and_a_limited_number() {
        let mut background = Background::new(Duration::ZERO);
        for _ in 0..2 {
            for number in 0..2 * MAX_REPAIRS {
                background.push_repair(Repair::of_set(&number.to_string()));
            }
        }
        let mut taken = 0;
        while let Some(operation) = background.take_due(false) {
            assert!(matches!(operation, Operation::Repair(_)));
            taken += 1;
        }
        assert_eq!(taken, MAX_REPAIRS);
        background.push_repair(Repair::of_set("one"));
        background.push_repair(Repair::of_set("one"));
        assert!(background.take_due(false).is_some());
        assert!(background.take_due(false).is_none());
    }

    #[test]
    fn a_repair_is_due_after_the_delay() {
        let mut background = Background::new(DELAY);
        assert_eq!(background.next_due(), None);
        let before = Instant::now();
        background.push_repair(Repair::of_set("set"));
        let due = background.next_due().unwrap();
        assert!((before + DELAY..=Instant::now() + DELAY).contains(&due));
        assert!(background.take_due(true).is_none(), "not even when closing");
        assert!(!background.is_unfinished(), "it may be dropped");
    }

    #[test]
    fn maintenance_is_due_at_once_when_closing() {
        let mut background = Background::new(DELAY);
        background.push_repair(Repair::of_set("set"));
        let before = defer(&mut background);
        let due = background.next_due().unwrap();
        assert!(due > before && due < before + DELAY, "before the repair");
        assert!(background.is_unfinished());
        assert!(background.take_due(false).is_none());
        let operation = background.take_due(true);
        assert!(matches!(operation, Some(Operation::MaintainIndex(_))));
        assert!(!background.is_unfinished());
        assert!(background.take_due(true).is_none());
    }
}
