//! Stopping a cache.

use crossbeam_channel::{Receiver, RecvTimeoutError};
use pow_redis_core::cache::Event;
use pow_redis_core::error::ErrorKind;
use redis::cmd;

use crate::calls::*;
use crate::fake_server::{Action, FakeServer};
use crate::queues::block_worker;
use crate::redis_server::{DEADLINE, RedisServer, free_port};

/// Waits until all workers have ended. Returns their events.
fn wait_for_end(events: &Receiver<Event>) -> Vec<Event> {
    let mut reported = Vec::new();
    loop {
        match events.recv_timeout(DEADLINE) {
            Ok(event) => reported.push(event),
            Err(RecvTimeoutError::Disconnected) => return reported,
            Err(RecvTimeoutError::Timeout) => panic!("the workers do not end: {reported:?}"),
        }
    }
}

#[test]
fn finishes_queued_requests() {
    let server = RedisServer::start();
    let mut options = options(&server.url());
    options.pool_size = 4;
    let (cache, events) = start(options);
    assert_eq!(value_of(&cache, 1), None);
    server.pause_writes();
    let blocking = block_worker(&cache);
    let calls: Vec<_> = (1..=1_000).map(|id| send(&cache, put(id, id))).collect();
    drop(cache);
    server.resume();
    wait_done(&blocking);
    calls.iter().for_each(wait_done);
    let reported = wait_for_end(&events);
    assert_eq!(reported.last(), Some(&Event::Stopped));
    assert_eq!(
        reported
            .iter()
            .filter(|event| **event == Event::Stopped)
            .count(),
        1
    );
    for id in 1..=1_000 {
        assert!(server.run::<bool>(cmd("EXISTS").arg(numbered_key(id).redis_key().as_bytes())));
    }
}

#[test]
fn stops_at_once_without_a_server() {
    let (cache, events) = start(options(&format!("redis://127.0.0.1:{}", free_port())));
    let event = events.recv_timeout(DEADLINE);
    assert!(matches!(event, Ok(Event::Disconnected(_))), "{event:?}");
    let calls = [send(&cache, get(1)), send(&cache, put(1, 1))];
    drop(cache);
    for pending in &calls {
        assert_eq!(error_of(wait(pending)), ErrorKind::Closed);
    }
    assert_eq!(wait_for_end(&events), [Event::Stopped]);
}

#[test]
fn stops_when_idle() {
    let server = FakeServer::start(|_, _| None);
    let (cache, events) = start(options(&server.url()));
    assert!(matches!(
        events.recv_timeout(DEADLINE),
        Ok(Event::Connected { .. })
    ));
    drop(cache);
    assert_eq!(wait_for_end(&events), [Event::Stopped]);
}

#[test]
fn completes_each_request_if_the_server_does_not_reply() {
    let server = FakeServer::start(|_, command| (command == "GET").then_some(Action::Ignore));
    let mut options = options(&server.url());
    options.timeout = std::time::Duration::from_millis(300);
    let (cache, events) = start(options);
    assert!(matches!(
        events.recv_timeout(DEADLINE),
        Ok(Event::Connected { .. })
    ));
    let calls: Vec<_> = (0..10).map(|_| send(&cache, get(1))).collect();
    drop(cache);
    for pending in &calls {
        let error = error_of(wait(pending));
        let expected = [ErrorKind::Timeout, ErrorKind::Closed];
        assert!(expected.contains(&error), "{error:?}");
    }
    assert_eq!(wait_for_end(&events).last(), Some(&Event::Stopped));
}
