//! Puts and deletes run in the order in which they were submitted.

use crossbeam_channel::{bounded, unbounded};
use pow_redis_core::cache::Cache;
use pow_redis_core::operation::{Operation, Ping};

use crate::calls::*;
use crate::fake_server::{self, FakeServer};
use crate::queues::block_worker;
use crate::redis_server::{RedisServer, wait_until};

fn start_with_four_workers(server: &RedisServer) -> Cache {
    let mut options = options(&server.url());
    options.pool_size = 4;
    start(options).0
}

/// Submits puts and deletes of one key in turn, without waiting for outcomes.
fn alternate(cache: &Cache, count: u32) -> Vec<PendingCall> {
    let operation = |turn: u32| -> Operation {
        if turn.is_multiple_of(2) {
            put(1, turn)
        } else {
            delete(1)
        }
    };
    (0..count)
        .map(|turn| send(cache, operation(turn)))
        .collect()
}

#[test]
fn the_last_of_many_wins() {
    let server = RedisServer::start();
    let cache = start_with_four_workers(&server);
    alternate(&cache, 1_000).iter().for_each(wait_done);
    assert_eq!(value_of(&cache, 1), None);
    alternate(&cache, 1_001).iter().for_each(wait_done);
    assert_eq!(value_of(&cache, 1), Some(number(1_000)));
}

#[test]
fn the_last_of_many_wins_after_a_lost_connection() {
    let server = RedisServer::start();
    let cache = start_with_four_workers(&server);
    for (writes, expected) in [(100, None), (101, Some(number(100)))] {
        server.pause_writes();
        let blocking = block_worker(&cache);
        let calls = alternate(&cache, writes);
        server.kill_connections();
        server.resume();
        wait_done(&blocking);
        calls.iter().for_each(wait_done);
        assert_eq!(value_of(&cache, 1), expected);
    }
    assert!(cache.info().retries >= 2);
}

#[test]
fn a_delete_waits_for_all_rounds_of_a_long_put() {
    const LAST: u32 = 2_000;
    let server = RedisServer::start();
    let cache = start_with_four_workers(&server);
    assert_eq!(value_of(&cache, 0), None);
    server.pause_writes();
    let blocking = block_worker(&cache);
    let records = (1..=LAST).map(|id| (numbered_key(id), number(id)));
    let long = send(&cache, put_all(records.collect()));
    let deleted = send(&cache, delete(LAST));
    let put_again = send(&cache, put(LAST - 1, 7));
    server.resume();
    [blocking, long, deleted, put_again]
        .iter()
        .for_each(wait_done);
    assert_eq!(value_of(&cache, LAST), None);
    assert_eq!(value_of(&cache, LAST - 1), Some(number(7)));
    assert_eq!(value_of(&cache, LAST - 2), Some(number(LAST - 2)));
}

/// The connection is lost after the first round of the put, while the delete waits for the second.
#[test]
fn a_delete_waits_for_a_long_put_that_is_retried() {
    let (sender, second_connection) = unbounded();
    let (release, gate) = bounded::<()>(0);
    let server = FakeServer::start(move |connection, command| {
        if connection > 0 {
            sender.send(command.to_owned()).unwrap();
        }
        match (connection, command) {
            (0, "PING") => {
                // The other requests are queued meanwhile, and then sent together.
                let _ = gate.recv();
                None
            }
            (0, "GET") => Some(fake_server::Action::ReplyAndClose(b"$3\r\n")),
            _ => None,
        }
    });
    let cache = start_at(&server.url());
    let ping = send(&cache, Operation::Ping(Ping));
    wait_until("the ping is sent", || cache.info().batches == 1);
    // The worker receives from the queues in turn: ping, put, get, delete.
    let second_ping = send(&cache, Operation::Ping(Ping));
    // One more record than a round writes.
    let records = (0..513).map(|id| (numbered_key(id), number(id)));
    let long = send(&cache, put_all(records.collect()));
    let read = send(&cache, get(1));
    let deleted = send(&cache, delete(512));
    drop(release);

    for pending in [&ping, &second_ping, &long, &deleted] {
        wait_done(pending);
    }
    wait(&read).unwrap();
    let names: Vec<String> = second_connection.try_iter().collect();
    let position = |name| names.iter().position(|other| other == name);
    assert_eq!(names.iter().filter(|name| *name == "SET").count(), 1);
    assert!(position("SET") < position("DEL"), "{names:?}");
    assert!(position("SET").is_some() && server.connections() == 2);
}
