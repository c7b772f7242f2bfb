//! A quota that requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much requests may take together.
#[derive(Debug)]
pub(crate) struct Quota {
    most: usize,
    taken: AtomicUsize,
}

/// A part of a quota. Dropping it returns the part.
#[derive(Debug)]
pub(crate) struct Share {
    quota: Arc<Quota>,
    amount: usize,
}

impl Quota {
    /// A quota of this amount.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: AtomicUsize::new(0),
        })
    }

    /// Takes a share. Returns `None` if not enough is left. A share that is larger than the quota is given
    /// if nothing else is taken.
    pub(crate) fn take(self: &Arc<Self>, amount: usize) -> Option<Share> {
        let take = |taken: usize| {
            let sum = taken.checked_add(amount)?;
            (taken == 0 || sum <= self.most).then_some(sum)
        };
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .ok()?;
        Some(Share {
            quota: Arc::clone(self),
            amount,
        })
    }

    /// How much is taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.taken.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn gives_no_more_than_it_has() {
        let quota = Quota::new(10);
        let first = quota.take(4).unwrap();
        let second = quota.take(6).unwrap();
        assert!(quota.take(1).is_none());
        assert!(quota.take(0).is_some(), "nothing fits always");
        drop(first);
        assert_eq!(quota.taken(), 6);
        assert!(quota.take(5).is_none());
        assert!(quota.take(4).is_some());
        drop(second);
        assert_eq!(quota.taken(), 0);
    }

    #[test]
    fn gives_a_larger_share_only_while_nothing_is_taken() {
        let quota = Quota::new(10);
        let small = quota.take(1).unwrap();
        assert!(quota.take(11).is_none());
        drop(small);
        let large = quota.take(11).unwrap();
        assert!(quota.take(1).is_none());
        drop(large);
        assert!(quota.take(usize::MAX).is_some());
    }

    #[test]
    fn threads_never_take_more_together() {
        let quota = Quota::new(10);
        thread::scope(|scope| {
            for amount in [1, 3, 4, 10] {
                let quota = &quota;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let share = quota.take(amount);
                        assert!(quota.taken() <= 10);
                        drop(share);
                    }
                });
            }
        });
        assert_eq!(quota.taken(), 0);
    }
}
