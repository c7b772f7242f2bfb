//! What waits: how long, how much of it, and what happens to those that give up.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use pow_redis_core::cache::Cache;
use pow_redis_core::error::ErrorKind;
use pow_redis_core::keyspace::layout::Layout;
use pow_redis_core::operation::{Operation, Ping};

use crate::calls::*;
use crate::fake_server::FakeServer;
use crate::redis_server::{Server, eventually};

/// Sends a put that the paused server does not answer, so that what is submitted next waits.
pub fn occupy(cache: &Cache) -> Answer {
    let batches = cache.info().batches;
    let answer = send(cache, put(0, 0));
    eventually("the put is sent", || cache.info().batches == batches + 1);
    answer
}

#[test]
fn a_get_beside_a_long_all_waits_for_one_batch() {
    const KEYS: u32 = 20_000;
    let server = Server::start();
    let cache = Arc::new(start_at(&server.url()));
    let keys = (1..=KEYS).map(|of| (numbered(of), number(of)));
    wait_done(&send(&cache, put_all(keys.collect())));

    server.pause_writes();
    let occupied = occupy(&cache);
    let before = cache.info().batches;
    let (sender, answers) = unbounded();
    let numbering = |operation| {
        let (cache_in_reply, sender) = (Arc::downgrade(&cache), sender.clone());
        let reply = Box::new(move |outcome| {
            let batches = cache_in_reply.upgrade().unwrap().info().batches;
            sender.send((batches, outcome)).unwrap();
        });
        cache.submit(operation, reply).unwrap();
    };
    numbering(all(&[ANY], Layout::Indexed));
    numbering(get(KEYS));
    server.resume();
    wait_done(&occupied);

    let (batches, outcome) = answers.recv().unwrap();
    assert_eq!(batches, before + 1, "{outcome:?}");
    let (batches, outcome) = answers.recv().unwrap();
    assert!(batches > before + 20, "{batches}");
    // The one that occupied the worker is there too.
    assert_eq!(records(outcome).len(), usize::try_from(KEYS).unwrap() + 1);
}

#[test]
fn what_comes_while_replies_are_far_is_sent_at_once() {
    const FAR: Duration = Duration::from_millis(15);
    let (let_go, gate) = bounded::<()>(0);
    let peer = FakeServer::start(move |_, command| {
        match command {
            "GET" => thread::sleep(FAR),
            "PING" => drop(gate.recv()),
            _ => {}
        }
        None
    });
    let cache = start_at(&peer.url());
    // So many replies show how far they are.
    (0..64).for_each(|of| drop(value_of(&cache, of)));

    // Nothing is answered until we let go. Should we be late, once more.
    eventually("one is sent while others are under way", || {
        let before = cache.info().batches;
        let ping = || send(&cache, Operation::Ping(Ping));
        let answer_one = || {
            thread::sleep(FAR);
            let_go.send(()).unwrap();
        };
        let first = ping();
        eventually("the first is sent", || cache.info().batches == before + 1);
        let two = [ping(), ping()];
        answer_one();
        wait_done(&first);
        eventually("two are sent", || cache.info().batches == before + 2);
        let last = ping();
        thread::sleep(FAR);
        let sent = cache.info().batches == before + 3;
        (0..3).for_each(|_| answer_one());
        two.iter().chain([&last]).for_each(wait_done);
        sent
    });
}

#[test]
fn a_full_queue_refuses_at_once() {
    let server = Server::start();
    for max_queue in 1..=3 {
        let mut options = options(&server.url());
        options.max_queue = max_queue;
        let (cache, _events) = start(options);
        assert_eq!(value_of(&cache, 9), None);

        server.pause_writes();
        let occupied = occupy(&cache);
        let waiting: Vec<_> = (0..max_queue).map(|_| send(&cache, put(1, 1))).collect();
        assert_eq!(cache.info().queue, max_queue);
        let (sender, answer) = unbounded();
        let reply = Box::new(move |outcome| sender.send(outcome).unwrap());
        let refused = cache.submit(put(1, 2), reply).unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::Busy);
        assert!(answer.recv().is_err(), "refused, and answered as well");

        // Reads have a queue of their own.
        let read = send(&cache, get(1));
        server.resume();
        wait_done(&occupied);
        waiting.iter().for_each(wait_done);
        wait(&read).unwrap();
        assert_eq!(value_of(&cache, 1), Some(number(1)));
        wait_done(&send(&cache, delete(1)));
    }
}

#[test]
fn who_gives_up_is_never_answered() {
    let server = Server::start();
    let cache = start_at(&server.url());
    assert_eq!(value_of(&cache, 1), None);
    server.pause_writes();
    let (sent, sent_answer) = {
        let batches = cache.info().batches;
        let submitted = submit(&cache, put(0, 0)).unwrap();
        eventually("the put is sent", || cache.info().batches == batches + 1);
        submitted
    };
    let (waiting, waiting_answer) = submit(&cache, put(1, 1)).unwrap();
    assert!(sent.cancel() && waiting.cancel());
    assert!(!sent.cancel(), "it was cancelled before");
    server.resume();

    wait_done(&send(&cache, put(2, 2)));
    // The other ends of the channels are gone, and nothing came.
    assert!(sent_answer.recv().is_err());
    assert!(waiting_answer.recv().is_err());
    assert_eq!(
        value_of(&cache, 1),
        None,
        "it was still waiting when it was cancelled"
    );
}

#[test]
fn a_reply_that_panics_does_not_end_the_worker() {
    let server = Server::start();
    let cache = start_at(&server.url());
    server.pause_writes();
    let occupied = occupy(&cache);
    let panics = Box::new(|_| panic!("as the test wants it"));
    cache.submit(get(1), panics).unwrap();
    let behind = send(&cache, get(1));
    server.resume();
    wait_done(&occupied);
    assert_eq!(error_of(wait(&behind)), ErrorKind::WorkerPanicked);
    assert_eq!(value_of(&cache, 0), Some(number(0)));
}
