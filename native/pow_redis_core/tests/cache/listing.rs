//! Reads do not wait for listings of many keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::calls::*;
use crate::fake_server::{Action, FakeServer};
use crate::redis_server::wait_until;

/// A page that is followed by another.
const PAGE: &[u8] = b"*2\r\n$1\r\n7\r\n*0\r\n";
const LAST_PAGE: &[u8] = b"*2\r\n$1\r\n0\r\n*0\r\n";
const NO_CONNECTION: usize = usize::MAX;

fn page(is_last: bool) -> Action {
    Action::Reply(if is_last { LAST_PAGE } else { PAGE })
}

#[test]
fn a_read_does_not_wait_for_a_listing_on_its_connection() {
    let listed = Arc::new(AtomicUsize::new(0));
    let read = Arc::new(AtomicBool::new(false));
    let seen = (Arc::clone(&listed), Arc::clone(&read));
    // The last page is sent after the read has arrived.
    let server = FakeServer::start(move |_, command| {
        let (listed, read) = &seen;
        match command {
            "ZSCAN" => {
                listed.fetch_add(1, Ordering::SeqCst);
                Some(page(read.load(Ordering::SeqCst)))
            }
            "GET" => {
                read.store(true, Ordering::SeqCst);
                None
            }
            _ => None,
        }
    });
    let cache = start_at(&server.url());
    let listing = send(&cache, all(&[ANY], &every_prefix()));
    wait_until("the listing has started", || {
        listed.load(Ordering::SeqCst) > 0
    });
    assert!(value_of(&cache, 1).is_some());
    assert!(records(wait(&listing)).is_empty());
    assert_eq!(server.connections(), 1);
}

#[test]
fn leaves_reads_to_the_free_worker() {
    let ended = Arc::new(AtomicBool::new(false));
    let lister = Arc::new(AtomicUsize::new(NO_CONNECTION));
    let reads = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let seen = (Arc::clone(&ended), Arc::clone(&lister), Arc::clone(&reads));
    let server = FakeServer::start(move |connection, command| {
        let (ended, lister, reads) = &seen;
        match command {
            "ZSCAN" => {
                lister.store(connection, Ordering::SeqCst);
                Some(page(ended.load(Ordering::SeqCst)))
            }
            "GET" => {
                reads[connection].fetch_add(1, Ordering::SeqCst);
                None
            }
            _ => None,
        }
    });
    let mut options = options(&server.url());
    options.pool_size = 2;
    let (cache, _events) = start(options);
    wait_until("both workers are connected", || server.connections() == 2);
    let listing = send(&cache, all(&[ANY], &every_prefix()));
    wait_until("the listing has started", || {
        lister.load(Ordering::SeqCst) != NO_CONNECTION
    });
    let lister = lister.load(Ordering::SeqCst);
    wait_until("the other worker is free", || {
        value_of(&cache, 1);
        reads[1 - lister].load(Ordering::SeqCst) > 0
    });

    let before = reads[lister].load(Ordering::SeqCst);
    (0..500).for_each(|id| drop(value_of(&cache, id)));
    assert_eq!(reads[lister].load(Ordering::SeqCst), before);
    ended.store(true, Ordering::SeqCst);
    wait(&listing).unwrap();
}
