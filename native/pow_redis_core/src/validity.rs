//! Whether a value that was read from Redis may still be used, without asking Redis again.
//!
//! Redis tells the connection that tracks reads which keys have changed
//! (<https://redis.io/docs/latest/develop/reference/client-side-caching/>). Instead of removing values when
//! it does, each read is stamped when it is sent, and what happens afterwards makes the stamp invalid. There
//! is then no race between storing a value and its invalidation.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of shards of keys. An invalidation makes all values of its shard invalid.
#[cfg(not(loom))]
const SHARDS: usize = 1 << 16;
#[cfg(loom)]
const SHARDS: usize = 2;

/// What makes stamps invalid: a version for each shard of keys, an epoch, and a time.
///
/// Invariant: a stamp that is valid at a time was made on the connection that still tracks, no change of
/// its shard was known when trust was last extended, and that trust has not ended.
#[derive(Debug)]
pub struct Validity {
    versions: Box<[AtomicU64]>,
    /// Odd while a connection tracks reads.
    epoch: AtomicU64,
    /// Until when the connection is trusted, in milliseconds of a clock that goes on while the host sleeps.
    trusted_until: AtomicU64,
}

/// What a read was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub shard: u32,
    pub version: u64,
    pub epoch: u64,
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            versions: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            epoch: AtomicU64::new(0),
            trusted_until: AtomicU64::new(0),
        }
    }
}

impl Validity {
    /// A connection tracks reads from now on. Nothing that was read before is valid.
    pub fn begin(&self) {
        self.end();
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The connection does not track any more: nothing is valid.
    pub fn end(&self) {
        self.trusted_until.store(0, Ordering::Release);
        let epoch = self.epoch.load(Ordering::Acquire);
        if epoch % 2 == 1 {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The stamp of a read that is about to be sent on the tracking connection. `None` if none tracks.
    pub fn stamp(&self, hash: u64) -> Option<Stamp> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let (shard, version) = self.version(hash)?;
        (epoch % 2 == 1).then(|| Stamp {
            shard,
            version: version.load(Ordering::Acquire),
            epoch,
        })
    }

    /// A key has changed, or is about to: what was read of its shard is not valid.
    pub fn invalidate(&self, hash: u64) {
        if let Some((_shard, version)) = self.version(hash) {
            version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// All changes that Redis knew at `until` minus the trusted time have been told.
    pub fn trust(&self, until: u64) {
        self.trusted_until.fetch_max(until, Ordering::AcqRel);
    }

    /// Whether a value with this stamp may be used at this time.
    pub fn is_valid(&self, stamp: Stamp, now: u64) -> bool {
        // Trust first: who sees it also sees the changes that were told before.
        now < self.trusted_until.load(Ordering::Acquire)
            && self.epoch.load(Ordering::Acquire) == stamp.epoch
            && usize::try_from(stamp.shard)
                .ok()
                .and_then(|shard| self.versions.get(shard))
                .is_some_and(|version| version.load(Ordering::Acquire) == stamp.version)
    }

    fn version(&self, hash: u64) -> Option<(u32, &AtomicU64)> {
        let shards = u64::try_from(self.versions.len()).ok()?;
        let shard = u32::try_from(hash.checked_rem(shards)?).ok()?;
        let version = self.versions.get(usize::try_from(shard).ok()?)?;
        Some((shard, version))
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// A key in Redis, and what its server tells the connection that tracks it.
    #[derive(Default)]
    struct Server {
        value: u64,
        is_tracked: bool,
    }

    /// Reads over the tracking connection: stamp, then ask.
    fn read(validity: &Validity, server: &Mutex<Server>) -> (Option<Stamp>, u64) {
        let stamp = validity.stamp(0);
        let mut server = server.lock().unwrap();
        server.is_tracked = true;
        (stamp, server.value)
    }

    /// Another client's write is told, and then trust is extended: nothing older is valid under that trust.
    #[test]
    fn a_change_that_was_told_before_trust_is_seen() {
        loom::model(|| {
            let validity = Arc::new(Validity::default());
            validity.begin();
            let server = Arc::new(Mutex::new(Server::default()));
            let (stamp, value) = read(&validity, &server);
            let worker = {
                let (validity, server) = (Arc::clone(&validity), Arc::clone(&server));
                thread::spawn(move || {
                    server.lock().unwrap().value = 1;
                    validity.invalidate(0);
                    validity.trust(10);
                })
            };
            let is_valid = validity.is_valid(stamp.unwrap(), 5);
            assert!(!(is_valid && value == 0), "served an old value under new trust");
            worker.join().unwrap();
        });
    }

    /// A put of this node: it bumps when submitted and before it is answered. What is valid after its answer
    /// is what it wrote.
    #[test]
    fn own_writes_are_read() {
        loom::model(|| {
            let validity = Arc::new(Validity::default());
            validity.begin();
            validity.trust(10);
            let server = Arc::new(Mutex::new(Server::default()));
            let reader = {
                let (validity, server) = (Arc::clone(&validity), Arc::clone(&server));
                thread::spawn(move || read(&validity, &server))
            };
            validity.invalidate(0);
            server.lock().unwrap().value = 1;
            validity.invalidate(0);
            let (stamp, value) = reader.join().unwrap();
            if stamp.is_some_and(|stamp| validity.is_valid(stamp, 5)) {
                assert_eq!(value, 1);
            }
        });
    }

    #[test]
    fn nothing_outlives_its_epoch() {
        loom::model(|| {
            let validity = Arc::new(Validity::default());
            validity.begin();
            validity.trust(10);
            let stamp = validity.stamp(0).unwrap();
            let other = Arc::clone(&validity);
            let worker = thread::spawn(move || {
                other.end();
                other.begin();
                other.trust(10);
            });
            worker.join().unwrap();
            assert!(!validity.is_valid(stamp, 5));
        });
    }
}
