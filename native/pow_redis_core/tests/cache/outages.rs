//! A server that goes away and comes back.

use std::time::Duration;

use pow_redis_core::cache::Event;
use pow_redis_core::error::ErrorKind;

use crate::calls::*;
use crate::queues::occupy;
use crate::redis_server::{PATIENCE, Server, eventually, free_port};

#[test]
fn a_request_outlives_its_connection() {
    let server = Server::start();
    let cache = start_at(&server.url());
    assert_eq!(value_of(&cache, 1), None);
    server.pause_writes();
    let occupied = occupy(&cache);
    let waiting = [send(&cache, put(1, 1)), send(&cache, put(2, 2))];
    server.kill_connections();
    server.resume();
    wait_done(&occupied);
    waiting.iter().for_each(wait_done);
    let info = cache.info();
    assert!(
        info.connected && info.retries >= 1 && info.reconnects >= 1,
        "{info:?}"
    );
    assert_eq!(value_of(&cache, 2), Some(number(2)));
}

#[test]
fn connections_that_were_closed_while_idle_are_no_error() {
    let server = Server::start();
    let mut options = options(&server.url());
    options.pool_size = 4;
    let (cache, _events) = start(options);
    wait_done(&send(&cache, put(1, 1)));
    for _ in 0..3 {
        server.kill_connections();
        let answers: Vec<_> = (0..32).map(|_| send(&cache, get(1))).collect();
        for answer in &answers {
            wait(answer).unwrap();
        }
    }
}

#[test]
fn an_outage_ends_in_refusals_at_once_and_then_in_answers() {
    let mut server = Server::start();
    let mut options = options(&server.url());
    options.timeout = Duration::from_millis(900);
    let (cache, events) = start(options);
    let event = || events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(event(), Event::Connected { version: Some(_) }));

    server.stop();
    eventually("calls are refused", || {
        // Those taken before the outage has lasted long enough are answered all the same.
        let submitted = submit(&cache, get(1)).map(|(_, answer)| wait(&answer).unwrap_err());
        submitted.is_err_and(|error| error.kind() == &ErrorKind::Disconnected)
    });
    assert!(!cache.info().connected);
    assert!(matches!(event(), Event::Disconnected(_)));

    server.start_again();
    eventually("calls are answered", || {
        submit(&cache, get(1)).is_ok_and(|(_, answer)| wait(&answer).is_ok())
    });
    assert!(cache.info().connected);
    assert!(matches!(event(), Event::Connected { .. }));
    assert!(events.is_empty(), "each change is reported once");
}

#[test]
fn who_gives_up_is_told_why_nobody_can_connect() {
    let (cache, events) = start(options(&format!("redis://127.0.0.1:{}", free_port())));
    let (ticket, _answer) = submit(&cache, get(1)).unwrap();
    let event = events.recv_timeout(PATIENCE);
    assert!(matches!(event, Ok(Event::Disconnected(_))), "{event:?}");
    let reason = cache.cancel(&ticket).unwrap();
    assert_eq!(reason.kind(), &ErrorKind::Disconnected);
    assert_eq!(cache.cancel(&ticket), None, "it was cancelled before");
}

#[test]
fn starts_without_a_server() {
    let mut options = options(&format!("redis://127.0.0.1:{}", free_port()));
    options.timeout = Duration::from_millis(300);
    let (cache, events) = start(options);
    let error = match submit(&cache, get(1)) {
        Ok((_, answer)) => error_of(wait(&answer)),
        Err(refused) => refused.kind().clone(),
    };
    assert!(matches!(
        error,
        ErrorKind::Disconnected | ErrorKind::Timeout
    ));
    assert!(matches!(
        events.recv_timeout(PATIENCE),
        Ok(Event::Disconnected(_))
    ));
    eventually("calls are refused", || submit(&cache, get(1)).is_err());
}
