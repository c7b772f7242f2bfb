//! The end of a cache.

use crossbeam_channel::{Receiver, RecvTimeoutError};
use pow_redis_core::cache::Event;
use pow_redis_core::error::ErrorKind;
use redis::cmd;

use crate::calls::*;
use crate::fake_server::{Answer, FakeServer};
use crate::queues::occupy;
use crate::redis_server::{PATIENCE, Server, free_port};

/// Waits for the last event; behind it the workers let go of what they share.
fn wait_for_end(events: &Receiver<Event>) -> Vec<Event> {
    let mut reported = Vec::new();
    loop {
        match events.recv_timeout(PATIENCE) {
            Ok(event) => reported.push(event),
            Err(RecvTimeoutError::Disconnected) => return reported,
            Err(RecvTimeoutError::Timeout) => panic!("the workers do not end: {reported:?}"),
        }
    }
}

#[test]
fn what_is_queued_is_finished() {
    let server = Server::start();
    let mut options = options(&server.url());
    options.pool_size = 4;
    let (cache, events) = start(options);
    assert_eq!(value_of(&cache, 1), None);
    server.pause_writes();
    let occupied = occupy(&cache);
    let answers: Vec<_> = (1..=1_000).map(|of| send(&cache, put(of, of))).collect();
    drop(cache);
    server.resume();
    wait_done(&occupied);
    answers.iter().for_each(wait_done);
    let reported = wait_for_end(&events);
    assert_eq!(reported.last(), Some(&Event::Stopped));
    assert_eq!(
        reported
            .iter()
            .filter(|event| **event == Event::Stopped)
            .count(),
        1
    );
    for of in 1..=1_000 {
        assert!(server.run::<bool>(cmd("EXISTS").arg(numbered(of).redis_key().as_bytes())));
    }
}

#[test]
fn index_sets_are_looked_after_before_the_end() {
    let server = Server::start();
    let (cache, events) = start(options(&server.url()));
    wait_done(&send(&cache, put(1, 1)));
    let sets: Vec<String> = server.words("KEYS _index:*");
    server.run::<i64>(cmd("DEL").arg(&sets));
    wait_done(&send(&cache, put(1, 2)));
    drop(cache);
    wait_for_end(&events);
    for set in sets {
        let ttl: i64 = server.run(cmd("PTTL").arg(&set));
        assert!(ttl > 0, "{set} lives for {ttl} ms");
    }
}

#[test]
fn without_a_server_the_end_does_not_wait_for_deadlines() {
    let (cache, events) = start(options(&format!("redis://127.0.0.1:{}", free_port())));
    let event = events.recv_timeout(PATIENCE);
    assert!(matches!(event, Ok(Event::Disconnected(_))), "{event:?}");
    let answers = [send(&cache, get(1)), send(&cache, put(1, 1))];
    drop(cache);
    for answer in &answers {
        assert_eq!(error_of(wait(answer)), ErrorKind::Closed);
    }
    assert_eq!(wait_for_end(&events), [Event::Stopped]);
}

#[test]
fn an_idle_cache_ends() {
    let peer = FakeServer::start(|_, _| None);
    let (cache, events) = start(options(&peer.url()));
    assert!(matches!(
        events.recv_timeout(PATIENCE),
        Ok(Event::Connected { .. })
    ));
    drop(cache);
    assert_eq!(wait_for_end(&events), [Event::Stopped]);
}

#[test]
fn each_request_is_answered_though_the_peer_is_silent() {
    let peer = FakeServer::start(|_, command| (command == "GET").then_some(Answer::Silence));
    let mut options = options(&peer.url());
    options.timeout = std::time::Duration::from_millis(300);
    let (cache, events) = start(options);
    assert!(matches!(
        events.recv_timeout(PATIENCE),
        Ok(Event::Connected { .. })
    ));
    let answers: Vec<_> = (0..10).map(|_| send(&cache, get(1))).collect();
    drop(cache);
    for answer in &answers {
        let error = error_of(wait(answer));
        let ends = [ErrorKind::Timeout, ErrorKind::Closed];
        assert!(ends.contains(&error), "{error:?}");
    }
    assert_eq!(wait_for_end(&events).last(), Some(&Event::Stopped));
}
