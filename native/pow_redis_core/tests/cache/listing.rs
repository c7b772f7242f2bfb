//! A listing of many keys and what goes past it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pow_redis_core::keyspace::layout::Layout;

use crate::calls::*;
use crate::fake_server::{Answer, FakeServer};
use crate::redis_server::eventually;

/// Pages that never end, until they are reported to.
const ONE_PAGE_OF_MANY: &[u8] = b"*2\r\n$1\r\n7\r\n*0\r\n";
const LAST_PAGE: &[u8] = b"*2\r\n$1\r\n0\r\n*0\r\n";
const NO_CONNECTION: usize = usize::MAX;

fn page(is_last: bool) -> Answer {
    Answer::Reply(if is_last { LAST_PAGE } else { ONE_PAGE_OF_MANY })
}

#[test]
fn a_read_does_not_wait_for_a_listing_on_its_connection() {
    let listed = Arc::new(AtomicUsize::new(0));
    let read = Arc::new(AtomicBool::new(false));
    let seen = (Arc::clone(&listed), Arc::clone(&read));
    // There is no last page before the read has come.
    let peer = FakeServer::start(move |_, command| {
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
    let cache = start_at(&peer.url());
    let listing = send(&cache, all(&[ANY], Layout::Indexed));
    eventually("it lists", || listed.load(Ordering::SeqCst) > 0);
    assert!(value_of(&cache, 1).is_some());
    assert!(records(wait(&listing)).is_empty());
    assert_eq!(peer.connections(), 1);
}

#[test]
fn reads_are_left_to_the_free_worker() {
    let ended = Arc::new(AtomicBool::new(false));
    let lister = Arc::new(AtomicUsize::new(NO_CONNECTION));
    let reads = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let seen = (Arc::clone(&ended), Arc::clone(&lister), Arc::clone(&reads));
    let peer = FakeServer::start(move |connection, command| {
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
    let mut options = options(&peer.url());
    options.pool_size = 2;
    let (cache, _events) = start(options);
    eventually("both are connected", || peer.connections() == 2);
    let listing = send(&cache, all(&[ANY], Layout::Indexed));
    eventually("it lists", || {
        lister.load(Ordering::SeqCst) != NO_CONNECTION
    });
    let lister = lister.load(Ordering::SeqCst);
    eventually("the other is free", || {
        value_of(&cache, 1);
        reads[1 - lister].load(Ordering::SeqCst) > 0
    });

    let before = reads[lister].load(Ordering::SeqCst);
    (0..500).for_each(|of| drop(value_of(&cache, of)));
    assert_eq!(reads[lister].load(Ordering::SeqCst), before);
    ended.store(true, Ordering::SeqCst);
    wait(&listing).unwrap();
}
