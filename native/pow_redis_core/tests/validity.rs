//! The protocol of versions, epochs and trust, over all interleavings of threads.
//!
//! The file under test is compiled a second time, with atomics that loom schedules.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot continue panics"
)]
#![allow(dead_code, reason = "the file has more than the models need")]

mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
}

#[path = "../src/near/arrivals.rs"]
mod arrivals;
#[path = "../src/near/tally.rs"]
mod tally;
#[path = "../src/near/validity.rs"]
mod validity;

use std::time::Duration;

use loom::sync::{Arc, Mutex};
use loom::thread;

use validity::{EpochEnd, Shard, Stamp, Validity};

/// In microseconds.
const MAX_STALENESS: u64 = 10;
const SHARD: Shard = 0;

/// A key in Redis. Its server tells a connection that tracks it of changes, in the order of its replies.
#[derive(Default)]
struct Server {
    value: u64,
}

/// A value in the near cache.
struct Entry {
    stamp: Stamp,
    value: u64,
}

fn tracking() -> Arc<Validity> {
    let staleness = Duration::from_micros(MAX_STALENESS);
    let validity = Arc::new(Validity::with_shards(1, staleness));
    validity.begin();
    validity.answered(0);
    validity
}

/// A read over the connection that tracks: the stamp is taken when it is sent.
fn read(validity: &Validity, server: &Mutex<Server>) -> Entry {
    let stamp = validity.stamp(SHARD).unwrap();
    let value = server.lock().unwrap().value;
    Entry { stamp, value }
}

fn serves(validity: &Validity, entry: &Entry, now: u64) -> Option<u64> {
    validity.is_valid(entry.stamp, now).then_some(entry.value)
}

/// Another client's write, which is told while a read is under way, before or after its reply: as soon as the
/// change is known, the old value is not served.
#[test]
fn a_change_that_was_told_is_seen() {
    loom::model(|| {
        let (validity, server) = (tracking(), Arc::new(Mutex::new(Server::default())));
        let known = Arc::new(Mutex::new(false));
        let worker = {
            let (validity, server, known) = (validity.clone(), server.clone(), known.clone());
            thread::spawn(move || {
                server.lock().unwrap().value = 1;
                validity.invalidate(SHARD);
                *known.lock().unwrap() = true;
            })
        };
        let entry = read(&validity, &server);
        let is_known = *known.lock().unwrap();
        let served = serves(&validity, &entry, 5);
        assert!(!(is_known && served == Some(0)), "an old value is served");
        worker.join().unwrap();
        assert_ne!(serves(&validity, &entry, 5), Some(0));
    });
}

/// The trust is renewed after all that came before it: under the new trust, the old value is not served.
#[test]
fn trust_that_is_renewed_covers_the_changes_before() {
    loom::model(|| {
        let (validity, server) = (tracking(), Arc::new(Mutex::new(Server::default())));
        let entry = read(&validity, &server);
        let worker = {
            let validity = validity.clone();
            thread::spawn(move || {
                server.lock().unwrap().value = 1;
                validity.invalidate(SHARD);
                validity.answered(MAX_STALENESS);
            })
        };
        // The first trust has ended by now.
        assert_eq!(serves(&validity, &entry, MAX_STALENESS), None);
        worker.join().unwrap();
    });
}

/// A write of this instance: its caller gets the answer, and reads what it has written.
#[test]
fn own_writes_are_read() {
    loom::model(|| {
        let (validity, server) = (tracking(), Arc::new(Mutex::new(Server::default())));
        let reader = {
            let (validity, server) = (validity.clone(), server.clone());
            thread::spawn(move || read(&validity, &server))
        };
        // Submitted, taken by the server, and about to be answered.
        validity.invalidate(SHARD);
        server.lock().unwrap().value = 1;
        validity.invalidate(SHARD);
        let entry = reader.join().unwrap();
        assert_ne!(serves(&validity, &entry, 5), Some(0));
    });
}

/// The connection is lost, and with it what the server would have told.
#[test]
fn nothing_outlives_its_epoch() {
    loom::model(|| {
        let (validity, server) = (tracking(), Arc::new(Mutex::new(Server::default())));
        let worker = {
            let (validity, server) = (validity.clone(), server.clone());
            thread::spawn(move || {
                let entry = read(&validity, &server);
                validity.end(EpochEnd::ConnectionLost);
                server.lock().unwrap().value = 1;
                validity.begin();
                validity.answered(5);
                entry
            })
        };
        let entry = worker.join().unwrap();
        assert_eq!(serves(&validity, &entry, 6), None);
        let fresh = read(&validity, &server);
        assert_eq!(serves(&validity, &fresh, 6), Some(1));
    });
}

/// The flush is told while a reader checks.
#[test]
fn a_flush_makes_everything_invalid() {
    loom::model(|| {
        let (validity, server) = (tracking(), Arc::new(Mutex::new(Server::default())));
        let entry = read(&validity, &server);
        let flushed = Arc::new(Mutex::new(false));
        let worker = {
            let (validity, flushed) = (validity.clone(), flushed.clone());
            thread::spawn(move || {
                validity.restart(EpochEnd::Flushed);
                *flushed.lock().unwrap() = true;
            })
        };
        let is_flushed = *flushed.lock().unwrap();
        assert!(!is_flushed || serves(&validity, &entry, 5).is_none());
        worker.join().unwrap();
        assert!(validity.is_tracking());
    });
}

/// An answer that takes long proves only what the server knew when it was asked.
#[test]
fn trust_counts_from_sending() {
    loom::model(|| {
        let (validity, server) = (tracking(), Mutex::new(Server::default()));
        let entry = read(&validity, &server);
        // Asked at 1, answered at 2. The key changes at 3, but the network loses what the server tells. The
        // answer arrives at 9.
        let (sent_at, changed_at) = (1, 3);
        server.lock().unwrap().value = 1;
        validity.answered(sent_at);
        for now in 9..40 {
            let is_stale = serves(&validity, &entry, now) == Some(0);
            assert!(!is_stale || now <= changed_at + MAX_STALENESS, "at {now}");
        }
    });
}

#[test]
fn a_stamp_needs_a_connection_that_tracks() {
    loom::model(|| {
        let validity = Validity::with_shards(1, Duration::from_micros(MAX_STALENESS));
        assert_eq!(validity.stamp(SHARD), None);
        validity.answered(1);
        validity.begin();
        let stamp = validity.stamp(SHARD).unwrap();
        assert!(!validity.is_valid(stamp, 2), "no trust from before");
        validity.answered(1);
        assert!(validity.is_valid(stamp, 2));
        validity.end(EpochEnd::Demoted);
        assert!(!validity.is_valid(stamp, 2) && validity.stamp(SHARD).is_none());
        assert_eq!(validity.ends(), [0, 0, 1, 0, 0, 0]);
    });
}
