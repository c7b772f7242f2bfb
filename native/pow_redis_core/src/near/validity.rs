//! Whether a value that was read from Redis may still be used, without asking Redis again.
//!
//! Redis tells the connection that tracks reads which keys have changed
//! (<https://redis.io/docs/latest/develop/reference/client-side-caching/>). Instead of removing values when
//! it does, each read is stamped when it is sent, and what happens afterwards makes the stamp invalid. There
//! is then no race between storing a value and its invalidation.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

// `tests/validity.rs` compiles this file with those of loom.
use super::arrivals::Arrivals;
use super::atomics::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use super::tally::Tally;

/// The number of shards of keys. An invalidation makes all values of its shard invalid.
const SHARDS: usize = 1 << 16;
/// How many reasons for the end of an epoch there are.
const REASONS: usize = EpochEnd::ALL.len();

/// What makes stamps invalid: a version for each shard of keys, an epoch, and until when the connection is
/// trusted.
///
/// Invariant: while a stamp is valid, the connection it was made for still tracks, and Redis has told of no
/// change in its shard. What Redis has not told for the maximum staleness ends the trust.
///
/// Times are microseconds of a clock that goes on while the host sleeps.
#[derive(Debug)]
pub struct Validity {
    /// Small, since hits look all over it. A value would have to outlive four billion changes of its shard to be
    /// taken for a later one.
    versions: Box<[AtomicU32]>,
    /// Odd while a connection tracks reads.
    epoch: AtomicU64,
    trusted_until: AtomicU64,
    arrivals: Arrivals,
    max_staleness: u64,
    /// Whether a stamp was checked since [`Validity::take_interest`].
    is_used: AtomicBool,
    hits: Tally,
    invalidations: AtomicU64,
    ends: [AtomicU64; REASONS],
    hasher: RandomState,
}

/// What a read was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The shard of the key.
    pub shard: Shard,
    /// The shard's version.
    pub version: Version,
    /// The epoch.
    pub epoch: u64,
}

/// The shard of a key.
pub type Shard = u32;

/// The version of a shard.
pub type Version = u32;

/// Why an epoch has ended, and with it all stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// The connection was lost or closed.
    ConnectionLost,
    /// The database was flushed.
    Flushed,
    /// The server is no primary any more, or another process.
    Demoted,
    /// A node of a cluster does not serve a key any more.
    Redirected,
    /// A node of a cluster has got or lost slots.
    SlotsMoved,
    /// A node of a cluster does not track.
    Refused,
}

impl EpochEnd {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::ConnectionLost,
        Self::Flushed,
        Self::Demoted,
        Self::Redirected,
        Self::SlotsMoved,
        Self::Refused,
    ];
}

impl Validity {
    /// Nothing is valid until a connection tracks. Then a change is noticed at most `max_staleness` after the
    /// server took it, even if the network fails.
    pub fn new(max_staleness: Duration) -> Self {
        Self::with_shards(SHARDS, max_staleness)
    }

    /// The same with another number of shards.
    pub(crate) fn with_shards(shards: usize, max_staleness: Duration) -> Self {
        Self {
            versions: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            epoch: AtomicU64::new(0),
            trusted_until: AtomicU64::new(0),
            arrivals: Arrivals::new(),
            max_staleness: u64::try_from(max_staleness.as_micros()).unwrap_or(u64::MAX),
            is_used: AtomicBool::new(false),
            hits: Tally::default(),
            invalidations: AtomicU64::new(0),
            ends: std::array::from_fn(|_| AtomicU64::new(0)),
            hasher: RandomState::new(),
        }
    }

    /// A connection tracks reads from now on. Nothing that was read before is valid.
    pub fn begin(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The connection does not track any more: nothing is valid.
    pub fn end(&self, reason: EpochEnd) {
        if self.is_tracking() {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            self.trusted_until.store(0, Ordering::Release);
            self.count(reason);
        }
    }

    /// The connection goes on tracking, but nothing that was read before is valid.
    pub fn restart(&self, reason: EpochEnd) {
        if self.overtake() {
            self.count(reason);
        }
    }

    /// A connection that does not track has answered a read, perhaps with more than Redis has told the one that
    /// does: nothing that was read before is valid. Returns whether anything was.
    pub fn overtake(&self) -> bool {
        let is_tracking = self.is_tracking();
        if is_tracking {
            self.epoch.fetch_add(2, Ordering::AcqRel);
        }
        is_tracking
    }

    fn count(&self, reason: EpochEnd) {
        for (known, ends) in EpochEnd::ALL.iter().zip(&self.ends) {
            if *known == reason {
                ends.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether a connection tracks reads.
    pub fn is_tracking(&self) -> bool {
        self.epoch.load(Ordering::Acquire) % 2 == 1
    }

    /// The shard of a Redis key.
    pub fn shard(&self, redis_key: &[u8]) -> Shard {
        let hash = self.hasher.hash_one(redis_key);
        let shards = u64::try_from(self.versions.len()).unwrap_or(u64::MAX);
        Shard::try_from(hash % shards.max(1)).unwrap_or_default()
    }

    /// The stamp of a read that is about to be sent on the connection that tracks. `None` if none does.
    pub fn stamp(&self, shard: Shard) -> Option<Stamp> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let version = self.version(shard)?.load(Ordering::Acquire);
        (epoch % 2 == 1).then_some(Stamp {
            shard,
            version,
            epoch,
        })
    }

    /// A key has changed, or is about to: what was read of its shard is not valid.
    pub fn invalidate(&self, shard: Shard) {
        if let Some(version) = self.version(shard) {
            version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The server tells that a key has changed.
    pub fn changed(&self, redis_key: &[u8]) {
        self.invalidate(self.shard(redis_key));
        // Who sees the number also sees the change.
        self.invalidations.fetch_add(1, Ordering::Release);
    }

    /// The server has told all changes that it knew when it answered what was sent at `sent_at`. It may have
    /// answered at once: when the answer arrived says nothing.
    pub fn answered(&self, sent_at: u64) {
        let until = sent_at.saturating_add(self.max_staleness);
        if self.is_tracking() {
            self.trusted_until.store(until, Ordering::Release);
        }
    }

    /// What the connection that tracks reads, and when.
    pub(crate) const fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Whether a value with this stamp may be used at this time. If so, counts a hit.
    pub fn is_valid(&self, stamp: Stamp, now: u64) -> bool {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        // Trust before the rest: whoever sees it also sees the changes that were told before.
        let is_valid = self.arrivals.are_read_in_time(now)
            && now < self.trusted_until.load(Ordering::Acquire)
            && self.epoch.load(Ordering::Acquire) == stamp.epoch
            && self
                .version(stamp.shard)
                .is_some_and(|version| version.load(Ordering::Acquire) == stamp.version);
        if is_valid {
            self.hits.add_one();
        }
        is_valid
    }

    /// Whether a stamp was checked since the last time. If not, the trust need not be renewed.
    pub fn take_interest(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    /// How long what Redis did not tell may go unnoticed.
    pub const fn max_staleness(&self) -> Duration {
        Duration::from_micros(self.max_staleness)
    }

    /// How many stamps were valid.
    pub fn hits(&self) -> u64 {
        self.hits.total()
    }

    /// How many changed keys the server has told of.
    pub fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::Acquire)
    }

    /// How many epochs have ended, by reason, in the order of [`EpochEnd::ALL`].
    pub fn ends(&self) -> [u64; REASONS] {
        self.ends
            .each_ref()
            .map(|ends| ends.load(Ordering::Relaxed))
    }

    fn version(&self, shard: Shard) -> Option<&AtomicU32> {
        self.versions.get(usize::try_from(shard).ok()?)
    }
}
