//! Queued requests: how long they wait, how many there are, and cancelling them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use pow_redis_core::cache::Cache;
use pow_redis_core::error::ErrorKind;
use pow_redis_core::operation::{Operation, Ping, Put};

use crate::calls::*;
use crate::fake_server::FakeServer;
use crate::redis_server::{RedisServer, wait_until};

/// Sends a put to a server whose writes are paused, so that the worker blocks and further requests are
/// queued.
pub fn block_worker(cache: &Cache) -> PendingCall {
    let batches = cache.info().batches;
    let pending = send(cache, put(0, 0));
    wait_until("the put is sent", || cache.info().batches == batches + 1);
    pending
}

#[test]
fn a_get_waits_for_one_batch_of_a_long_all() {
    const KEYS: u32 = 20_000;
    let server = RedisServer::start();
    let cache = Arc::new(start_at(&server.url()));
    let keys = (1..=KEYS).map(|id| (numbered_key(id), number(id)));
    wait_done(&send(&cache, put_all(keys.collect())));

    server.pause_writes();
    let blocking = block_worker(&cache);
    let before = cache.info().batches;
    let (sender, outcomes) = unbounded();
    let submit_counting = |operation| {
        let (cache_in_reply, sender) = (Arc::downgrade(&cache), sender.clone());
        let reply = Box::new(move |outcome| {
            let batches = cache_in_reply.upgrade().unwrap().info().batches;
            sender.send((batches, outcome)).unwrap();
        });
        cache.submit(operation, reply).unwrap();
    };
    submit_counting(all(&[ANY], &every_prefix()));
    submit_counting(get(KEYS));
    server.resume();
    wait_done(&blocking);

    let (batches, outcome) = outcomes.recv().unwrap();
    assert_eq!(batches, before + 1, "{outcome:?}");
    let (batches, outcome) = outcomes.recv().unwrap();
    assert!(batches > before + 20, "{batches}");
    // The records include the one that blocked the worker.
    assert_eq!(records(outcome).len(), usize::try_from(KEYS).unwrap() + 1);
}

#[test]
fn sends_further_requests_while_no_reply_can_arrive() {
    const ROUND_TRIP: Duration = Duration::from_millis(15);
    let (release, gate) = bounded::<()>(0);
    let server = FakeServer::start(move |_, command| {
        match command {
            "GET" => thread::sleep(ROUND_TRIP),
            "PING" => drop(gate.recv()),
            _ => {}
        }
        None
    });
    let cache = start_at(&server.url());
    // The worker estimates the round-trip time from these.
    (0..64).for_each(|id| drop(value_of(&cache, id)));

    // The server replies to one ping per message. If the test is too slow, it tries again.
    wait_until("a request is sent while others are in flight", || {
        let before = cache.info().batches;
        let ping = || send(&cache, Operation::Ping(Ping));
        let reply_to_one = || {
            thread::sleep(ROUND_TRIP);
            release.send(()).unwrap();
        };
        let first = ping();
        wait_until("the first is sent", || cache.info().batches == before + 1);
        let two = [ping(), ping()];
        reply_to_one();
        wait_done(&first);
        wait_until("two are sent", || cache.info().batches == before + 2);
        let last = ping();
        thread::sleep(ROUND_TRIP);
        let sent = cache.info().batches == before + 3;
        (0..3).for_each(|_| reply_to_one());
        two.iter().chain([&last]).for_each(wait_done);
        sent
    });
}

#[test]
fn rejects_requests_if_the_queue_is_full() {
    let server = RedisServer::start();
    for max_queue in 1..=3 {
        let mut options = options(&server.url());
        options.max_queue = max_queue;
        let (cache, _events) = start(options);
        assert_eq!(value_of(&cache, 9), None);

        server.pause_writes();
        let blocking = block_worker(&cache);
        let queued: Vec<_> = (0..max_queue).map(|_| send(&cache, put(1, 1))).collect();
        assert_eq!(cache.info().queue, max_queue);
        let (sender, pending) = unbounded();
        let reply = Box::new(move |outcome| sender.send(outcome).unwrap());
        let rejected = cache.submit(put(1, 2), reply).unwrap_err();
        assert_eq!(rejected.kind(), &ErrorKind::Busy);
        assert!(pending.recv().is_err(), "rejected, but completed as well");

        // Reads have a queue of their own.
        let read = send(&cache, get(1));
        server.resume();
        wait_done(&blocking);
        queued.iter().for_each(wait_done);
        wait(&read).unwrap();
        assert_eq!(value_of(&cache, 1), Some(number(1)));
        wait_done(&send(&cache, delete(1)));
    }
}

/// A put of a value of this many bytes.
fn put_bytes(id: u32, bytes: u32) -> Operation {
    let zeros = vec![0; bytes.try_into().unwrap()];
    let value = [&[131, 109][..], &bytes.to_be_bytes(), &zeros].concat();
    let records = vec![(numbered_key(id), value)];
    Operation::Put(Put::new(records, HOUR, &every_prefix()).unwrap())
}

fn error_of_submitting(cache: &Cache, operation: Operation) -> Option<ErrorKind> {
    submit(cache, operation)
        .err()
        .map(|error| error.kind().clone())
}

#[test]
fn rejects_writes_whose_bytes_exceed_the_limit() {
    const VALUE: u32 = 100_000;
    let put = |id| put_bytes(id, VALUE);
    let put_len = put(1).byte_len();
    let server = RedisServer::start();
    let mut options = options(&server.url());
    options.max_queue_bytes = 3 * put_len;
    let (cache, _events) = start(options);
    assert_eq!(value_of(&cache, 9), None);

    server.pause_writes();
    // Also those count that have been sent or received from the queue.
    let batches = cache.info().batches;
    let mut pending = vec![send(&cache, put(1))];
    wait_until("the put is sent", || cache.info().batches == batches + 1);
    pending.extend([2, 3].map(|id| send(&cache, put(id))));
    assert_eq!(cache.info().queue_bytes, 3 * put_len);
    assert_eq!(error_of_submitting(&cache, put(4)), Some(ErrorKind::Busy));
    assert_eq!(cache.info().queue_bytes, 3 * put_len);
    // Reads have bytes of their own.
    let read = send(&cache, get(9));
    server.resume();
    pending.iter().for_each(wait_done);
    wait(&read).unwrap();
    // They are returned before the caller learns of the outcome.
    assert_eq!(cache.info().queue_bytes, 0);
    wait_done(&send(&cache, put(4)));
}

#[test]
fn accepts_a_write_of_more_bytes_than_the_limit_alone() {
    let server = RedisServer::start();
    let mut options = options(&server.url());
    options.max_queue_bytes = 1_000;
    let (cache, _events) = start(options);
    assert_eq!(value_of(&cache, 9), None);
    server.pause_writes();
    let large = send(&cache, put_bytes(1, 10_000));
    assert_eq!(
        error_of_submitting(&cache, put(2, 2)),
        Some(ErrorKind::Busy)
    );
    server.resume();
    wait_done(&large);
    let small = send(&cache, put(2, 2));
    wait_done(&small);
}

/// The bytes of a cancelled request are held until the worker drops it.
#[test]
fn returns_the_bytes_of_cancelled_requests() {
    let server = RedisServer::start();
    let cache = start_at(&server.url());
    assert_eq!(value_of(&cache, 9), None);
    server.pause_writes();
    let blocking = block_worker(&cache);
    let (handle, _pending) = submit(&cache, put_bytes(1, 10_000)).unwrap();
    assert!(handle.cancel());
    assert!(cache.info().queue_bytes > 10_000);
    server.resume();
    wait_done(&blocking);
    wait_until("the bytes are returned", || cache.info().queue_bytes == 0);
}

#[test]
fn allocates_no_places_ahead() {
    let server = RedisServer::start();
    let mut options = options(&server.url());
    options.max_queue = usize::MAX;
    options.max_queue_bytes = usize::MAX;
    let (cache, _events) = start(options);
    wait_done(&send(&cache, put(1, 1)));
    assert_eq!(value_of(&cache, 1), Some(number(1)));
}

#[test]
fn does_not_complete_cancelled_requests() {
    let server = RedisServer::start();
    let cache = start_at(&server.url());
    assert_eq!(value_of(&cache, 1), None);
    server.pause_writes();
    let (sent, sent_call) = {
        let batches = cache.info().batches;
        let submitted = submit(&cache, put(0, 0)).unwrap();
        wait_until("the put is sent", || cache.info().batches == batches + 1);
        submitted
    };
    let (queued, queued_call) = submit(&cache, put(1, 1)).unwrap();
    assert!(sent.cancel() && queued.cancel());
    assert!(!sent.cancel(), "already cancelled");
    server.resume();

    wait_done(&send(&cache, put(2, 2)));
    // The replies were dropped without a call.
    assert!(sent_call.recv().is_err());
    assert!(queued_call.recv().is_err());
    assert_eq!(
        value_of(&cache, 1),
        None,
        "it was cancelled before it was sent"
    );
}

#[test]
fn a_panic_in_a_reply_does_not_end_the_worker() {
    let server = RedisServer::start();
    let cache = start_at(&server.url());
    server.pause_writes();
    let blocking = block_worker(&cache);
    let panics = Box::new(|_| panic!("expected by the test"));
    cache.submit(get(1), panics).unwrap();
    let next = send(&cache, get(1));
    server.resume();
    wait_done(&blocking);
    assert_eq!(error_of(wait(&next)), ErrorKind::WorkerPanicked);
    assert_eq!(value_of(&cache, 0), Some(number(0)));
}
