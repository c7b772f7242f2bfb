//! Values that are kept near are valid until Redis has another.

use std::time::Duration;

use crossbeam_channel::Receiver;
use pow_redis_core::cache::{Cache, Event};
use pow_redis_core::error::Error;
use pow_redis_core::near::EpochEnd;
use pow_redis_core::near::boot_clock;
use pow_redis_core::operation::{Get, Lease, Operation, Outcome};
use redis::{Value, cmd};

use crate::calls::*;
use crate::redis_server::{DEADLINE, RedisServer, wait_until};

/// A cache with near values, and its events.
fn start_near(url: &str, pool_size: usize) -> (Cache, Receiver<Event>) {
    let mut options = options(url);
    options.pool_size = pool_size;
    options.max_staleness = Some(DEADLINE);
    let (cache, events) = start(options);
    wait_until("a connection tracks", || is_tracking(&cache));
    (cache, events)
}

fn is_tracking(cache: &Cache) -> bool {
    cache.info().near.is_some_and(|near| near.tracking)
}

fn invalidations(cache: &Cache) -> u64 {
    cache.info().near.map_or(0, |near| near.invalidations)
}

fn read(cache: &Cache, id: u32) -> Result<Outcome, Error> {
    let get = Get::new(numbered_key(id), &every_prefix()).near();
    call(cache, Operation::Get(get))
}

/// Reads a value that may be kept near.
fn lease(cache: &Cache, id: u32) -> Lease {
    match read(cache, id) {
        Ok(Outcome::NearValue(_, lease)) => lease,
        outcome => panic!("{outcome:?}"),
    }
}

fn is_valid(cache: &Cache, lease: &Lease) -> bool {
    let now = boot_clock::now_us();
    now < lease.expires_at && cache.validity().unwrap().is_valid(lease.stamp, now)
}

/// The Redis key with this id.
fn redis_key(id: u32) -> Vec<u8> {
    numbered_key(id).redis_key().as_bytes().to_vec()
}

fn ends(events: &Receiver<Event>) -> Vec<EpochEnd> {
    let reason = |event| match event {
        Event::NearValuesEnded(reason) => Some(reason),
        _ => None,
    };
    events.try_iter().filter_map(reason).collect()
}

#[test]
fn a_value_is_valid_until_another_client_changes_it() {
    let server = RedisServer::start();
    for url in [server.url(), server.socket_url()] {
        let (cache, _events) = start_near(&url, 4);
        for command in ["DEL", "UNLINK", "PERSIST", "GETDEL"] {
            wait_done(&send(&cache, put(1, 7)));
            let (changed, other) = (lease(&cache, 1), {
                wait_done(&send(&cache, put(2, 7)));
                lease(&cache, 2)
            });
            assert!(is_valid(&cache, &changed) && is_valid(&cache, &other));
            let before = invalidations(&cache);
            server.run::<Value>(cmd(command).arg(redis_key(1)));
            // Until the message is read, no value is valid.
            wait_until("the message is read", || invalidations(&cache) > before);
            assert!(!is_valid(&cache, &changed) && is_valid(&cache, &other));
        }
    }
}

#[test]
fn a_value_ends_with_its_key() {
    let server = RedisServer::start();
    let (cache, _events) = start_near(&server.url(), 1);
    wait_done(&send(&cache, put(1, 7)));
    server.run::<Value>(cmd("PEXPIRE").arg(redis_key(1)).arg(500));
    let lease = lease(&cache, 1);
    assert!(lease.expires_at <= boot_clock::now_us() + 500_000);
    wait_until("it has expired", || !is_valid(&cache, &lease));
    wait_until("it is gone", || {
        matches!(read(&cache, 1), Ok(Outcome::NotFound))
    });
}

#[test]
fn own_writes_end_a_value_before_they_are_answered() {
    let server = RedisServer::start();
    let (cache, _events) = start_near(&server.url(), 4);
    wait_done(&send(&cache, put(1, 0)));
    for turn in 1..100 {
        let old = lease(&cache, 1);
        assert!(is_valid(&cache, &old));
        // Another reader comes while the write is under way.
        let write = send(&cache, put(1, turn));
        let meanwhile = read(&cache, 1);
        wait_done(&write);
        assert!(!is_valid(&cache, &old));
        if let Ok(Outcome::NearValue(value, lease)) = meanwhile {
            assert!(value == number(turn) || !is_valid(&cache, &lease));
        }
    }
    let old = lease(&cache, 1);
    wait_done(&send(&cache, delete(1)));
    assert!(!is_valid(&cache, &old));
}

#[test]
fn a_flush_ends_all_values() {
    let server = RedisServer::start();
    let (cache, events) = start_near(&server.url(), 2);
    wait_done(&send(&cache, put(1, 7)));
    let lease = lease(&cache, 1);
    server.command::<Value>("FLUSHALL");
    wait_until("the flush is known", || !is_valid(&cache, &lease));
    assert!(is_tracking(&cache));
    wait_until("it is reported", || ends(&events) == [EpochEnd::Flushed]);
}

#[test]
fn a_lost_connection_ends_all_values() {
    let server = RedisServer::start();
    let (cache, events) = start_near(&server.url(), 2);
    wait_done(&send(&cache, put(1, 7)));
    let lease = lease(&cache, 1);
    server.kill_connections();
    wait_until("the loss is known", || !is_valid(&cache, &lease));
    wait_until("it is reported", || {
        ends(&events).contains(&EpochEnd::ConnectionLost)
    });
    wait_until(
        "another connection tracks",
        || matches!(read(&cache, 1), Ok(Outcome::NearValue(_, new)) if is_valid(&cache, &new)),
    );
}

#[test]
fn a_cache_that_stops_leaves_nothing_valid() {
    let server = RedisServer::start();
    let (cache, _events) = start_near(&server.url(), 2);
    wait_done(&send(&cache, put(1, 7)));
    let lease = lease(&cache, 1);
    let validity = cache.validity().unwrap().clone();
    drop(cache);
    wait_until("nothing tracks", || !validity.is_tracking());
    assert!(!validity.is_valid(lease.stamp, 0));
}

#[test]
fn trust_ends_while_the_server_hangs_and_returns_with_it() {
    let server = RedisServer::start();
    let mut options = options(&server.url());
    options.max_staleness = Some(Duration::from_millis(300));
    let (cache, _events) = start(options);
    wait_until("a connection tracks", || is_tracking(&cache));
    wait_done(&send(&cache, put(1, 7)));
    let lease = lease(&cache, 1);
    server.suspend();
    wait_until("the trust has ended", || !is_valid(&cache, &lease));
    server.wake();
    wait_until(
        "the trust is back",
        || matches!(read(&cache, 1), Ok(Outcome::NearValue(_, new)) if is_valid(&cache, &new)),
    );
}
