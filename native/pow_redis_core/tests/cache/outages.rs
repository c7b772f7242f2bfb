//! Lost connections, and servers that are down for a while.

use std::time::Duration;

use pow_redis_core::cache::Event;
use pow_redis_core::error::ErrorKind;

use crate::calls::*;
use crate::queues::block_worker;
use crate::redis_server::{DEADLINE, RedisServer, free_port, wait_until};

#[test]
fn retries_after_a_lost_connection() {
    let server = RedisServer::start();
    let cache = start_at(&server.url());
    assert_eq!(value_of(&cache, 1), None);
    server.pause_writes();
    let blocking = block_worker(&cache);
    let queued = [send(&cache, put(1, 1)), send(&cache, put(2, 2))];
    server.kill_connections();
    server.resume();
    wait_done(&blocking);
    queued.iter().for_each(wait_done);
    let info = cache.info();
    assert!(
        info.connected && info.retries >= 1 && info.reconnects >= 1,
        "{info:?}"
    );
    assert_eq!(value_of(&cache, 2), Some(number(2)));
}

#[test]
fn reconnects_after_connections_were_closed_while_idle() {
    let server = RedisServer::start();
    let mut options = options(&server.url());
    options.pool_size = 4;
    let (cache, _events) = start(options);
    wait_done(&send(&cache, put(1, 1)));
    for _ in 0..3 {
        server.kill_connections();
        let calls: Vec<_> = (0..32).map(|_| send(&cache, get(1))).collect();
        for pending in &calls {
            wait(pending).unwrap();
        }
    }
}

#[test]
fn rejects_calls_during_an_outage_and_recovers() {
    let mut server = RedisServer::start();
    let mut options = options(&server.url());
    options.timeout = Duration::from_millis(400);
    let (cache, events) = start(options);
    let event = || events.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(event(), Event::Connected { version: Some(_) }));

    server.stop();
    wait_until("calls are rejected", || {
        // Calls are accepted until the outage has lasted for the timeout.
        let submitted = submit(&cache, get(1)).map(|(_, pending)| wait(&pending).unwrap_err());
        submitted.is_err_and(|error| error.kind() == &ErrorKind::Disconnected)
    });
    assert!(!cache.info().connected);
    assert!(matches!(event(), Event::Disconnected(_)));

    server.restart();
    wait_until("calls succeed", || {
        submit(&cache, get(1)).is_ok_and(|(_, pending)| wait(&pending).is_ok())
    });
    assert!(cache.info().connected);
    assert!(matches!(event(), Event::Connected { .. }));
    assert!(events.is_empty(), "each change is reported once");
}

#[test]
fn cancelling_returns_why_the_cache_cannot_connect() {
    let (cache, events) = start(options(&format!("redis://127.0.0.1:{}", free_port())));
    let (handle, _outcome) = submit(&cache, get(1)).unwrap();
    let event = events.recv_timeout(DEADLINE);
    assert!(matches!(event, Ok(Event::Disconnected(_))), "{event:?}");
    let reason = cache.cancel(&handle).unwrap();
    assert_eq!(reason.kind(), &ErrorKind::Disconnected);
    assert_eq!(cache.cancel(&handle), None, "already cancelled");
}

#[test]
fn starts_without_a_server() {
    let mut options = options(&format!("redis://127.0.0.1:{}", free_port()));
    options.timeout = Duration::from_millis(300);
    let (cache, events) = start(options);
    let error = match submit(&cache, get(1)) {
        Ok((_, pending)) => error_of(wait(&pending)),
        Err(rejected) => rejected.kind().clone(),
    };
    assert!(matches!(
        error,
        ErrorKind::Disconnected | ErrorKind::Timeout
    ));
    assert!(matches!(
        events.recv_timeout(DEADLINE),
        Ok(Event::Disconnected(_))
    ));
    wait_until("calls are rejected", || submit(&cache, get(1)).is_err());
}
