//! Counts what many threads do.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many threads count each for themselves. More share.
const SLOTS: usize = 64;

/// A number to which many threads add without waiting for each other.
#[derive(Debug)]
pub struct Tally {
    slots: Box<[Slot]>,
}

/// What a thread has counted, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot(AtomicU64);

impl Default for Tally {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
        }
    }
}

impl Tally {
    /// Adds one.
    pub fn add_one(&self) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(slot) = self.slots.get(THREAD.with(|thread| thread % SLOTS)) {
            slot.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What all threads have counted.
    pub fn total(&self) -> u64 {
        let counts = self.slots.iter().map(|slot| slot.0.load(Ordering::Relaxed));
        counts.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn counts_what_all_threads_do() {
        let tally = Tally::default();
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| (0..50).for_each(|_| tally.add_one()));
            }
        });
        assert_eq!(tally.total(), 5_000);
    }
}
