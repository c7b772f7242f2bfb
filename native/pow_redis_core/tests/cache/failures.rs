//! Servers that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pow_redis_core::error::ErrorKind;
use pow_redis_core::operation::{Operation, Outcome, Ping};

use crate::calls::*;
use crate::fake_server::{Action, FakeServer};
use crate::redis_server::wait_until;

/// A server that reacts like this to `GET` and `SET` on its first connection.
fn first_connection(action: Action) -> FakeServer {
    FakeServer::start(move |connection, command| {
        (connection == 0 && matches!(command, "GET" | "SET")).then_some(action)
    })
}

#[test]
fn retries_after_a_truncated_reply() {
    for reply in ["", "$", "$3", "$3\r\n", "$3\r\n\u{1}", "$3\r\nabc\r"] {
        let server = first_connection(Action::ReplyAndClose(reply.as_bytes()));
        let cache = start_at(&server.url());
        let calls = [send(&cache, get(1)), send(&cache, get(1))];
        for pending in &calls {
            let outcome = wait(pending);
            assert!(
                matches!(outcome, Ok(Outcome::Value(_))),
                "{reply:?}: {outcome:?}"
            );
        }
        let info = cache.info();
        assert!(
            info.retries >= 1 && info.reconnects == 1,
            "{reply:?}: {info:?}"
        );
    }
}

#[test]
fn reconnects_after_garbage() {
    for garbage in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0", "*x\r\n"] {
        let server = first_connection(Action::Reply(garbage.as_bytes()));
        let cache = start_at(&server.url());
        let outcome = call(&cache, get(1));
        assert!(
            matches!(outcome, Ok(Outcome::Value(_))),
            "{garbage:?}: {outcome:?}"
        );
        assert_eq!(server.connections(), 2, "{garbage:?}");
    }
}

#[test]
fn gives_up_on_a_server_that_only_sends_garbage() {
    let server =
        FakeServer::start(|_, command| (command == "GET").then_some(Action::Reply(b"?\r\n")));
    let mut options = options(&server.url());
    options.timeout = Duration::from_secs(1);
    let (cache, _events) = start(options);
    let error = error_of(call(&cache, get(1)));
    assert!(
        matches!(error, ErrorKind::Protocol | ErrorKind::Timeout),
        "{error:?}"
    );
    assert!(
        (2..20).contains(&server.connections()),
        "{}",
        server.connections()
    );
}

#[test]
fn retries_if_the_server_is_not_ready() {
    for reply in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    ] {
        let server = first_connection(Action::Reply(reply.as_bytes()));
        let cache = start_at(&server.url());
        wait_done(&send(&cache, put(1, 1)));
        assert_eq!(server.connections(), 2, "{reply}");

        let server = FakeServer::start(|connection, command| {
            (connection == 0 && command == "INFO").then_some(Action::Reply(reply.as_bytes()))
        });
        let cache = start_at(&server.url());
        wait_done(&send(&cache, put(1, 1)));
        assert_eq!(server.connections(), 2, "{reply}");
    }
}

/// The server has run the second write already. If only the first were retried, it would run last.
#[test]
fn retries_the_writes_after_a_retried_write() {
    let (arrive, arrived) = crossbeam_channel::bounded(1);
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    let sets = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = Arc::clone(&sets);
    let server = FakeServer::start(move |connection, command| match command {
        // Both puts are submitted while the worker connects, and sent together.
        "TIME" if connection == 0 => {
            let _ = arrive.send(());
            let _ = gate.recv();
            None
        }
        "SET" => {
            let before = counted[connection].fetch_add(1, Ordering::AcqRel);
            let read_only =
                Action::Reply(b"-READONLY You can't write against a read only replica.\r\n");
            (connection == 0 && before == 0).then_some(read_only)
        }
        _ => None,
    });
    let cache = start_at(&server.url());
    arrived.recv().unwrap();
    let calls = [send(&cache, put(1, 1)), send(&cache, put(1, 2))];
    drop(open);
    calls.iter().for_each(wait_done);
    assert_eq!(sets[0].load(Ordering::Acquire), 2);
    assert_eq!(sets[1].load(Ordering::Acquire), 2);
}

#[test]
fn returns_other_errors_to_the_caller() {
    for (reply, message) in [
        ("-OOM command not allowed\r\n", "redis returned OOM"),
        ("-NOPERM no permission\r\n", "redis returned NOPERM"),
        ("-ERR about the key g2EB\r\n", "redis returned ERR"),
        ("-secret:7 of the server\r\n", "redis returned ERR"),
    ] {
        let server = first_connection(Action::Reply(reply.as_bytes()));
        let cache = start_at(&server.url());
        let error = call(&cache, put(1, 1)).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(call(&cache, get(1)).unwrap_err().to_string(), message);
        assert_eq!(server.connections(), 1, "{reply}");
    }
}

#[test]
fn reconnects_after_an_unexpected_reply() {
    let server = first_connection(Action::Reply(b":7\r\n"));
    let cache = start_at(&server.url());
    assert_eq!(error_of(call(&cache, get(1))), ErrorKind::Protocol);
    assert!(matches!(
        call(&cache, Operation::Ping(Ping)),
        Ok(Outcome::Done)
    ));
    assert_eq!(server.connections(), 2);
}

#[test]
fn reconnects_if_the_server_does_not_reply() {
    let server = first_connection(Action::Ignore);
    let mut options = options(&server.url());
    options.timeout = Duration::from_millis(600);
    let (cache, _events) = start(options);
    assert_eq!(error_of(call(&cache, get(1))), ErrorKind::Timeout);
    // The reply to the first call may still arrive, but on the old connection.
    wait_until("the next connection replies", || {
        submit(&cache, get(1)).is_ok_and(|(_, pending)| wait(&pending).is_ok())
    });
    assert_eq!(server.connections(), 2);
}

#[test]
fn reconnects_if_the_server_does_not_reply_to_the_login() {
    let server = FakeServer::start(|connection, _| (connection == 0).then_some(Action::Ignore));
    let mut options = options(&server.url());
    options.connect.timeout = Duration::from_millis(600);
    let (cache, _events) = start(options);
    let outcome = call(&cache, get(1));
    assert!(matches!(outcome, Ok(Outcome::Value(_))), "{outcome:?}");
    // On a busy machine, the next login may take too long as well.
    assert!(server.connections() >= 2);
}

#[test]
fn a_reply_too_many_or_too_few_ends_the_round() {
    const SEVEN: &[u8] = b"$3\r\n\x83a\x07\r\n";
    const EIGHT: &[u8] = b"$3\r\n\x83a\x08\r\n";
    let too_many: &[u8] = [EIGHT, SEVEN].concat().leak();
    for action in [Action::Reply(too_many), Action::Ignore] {
        let server = first_connection(action);
        let mut options = options(&server.url());
        options.timeout = Duration::from_secs(4);
        let (cache, _events) = start(options);
        let outcome = call(&cache, get(1));
        let value = matches!(&outcome, Ok(Outcome::Value(value)) if value == b"\x83a\x07");
        assert!(value, "{outcome:?}");
        assert_eq!(server.connections(), 2);
    }
}

#[test]
fn a_request_alone_is_given_up_after_two_lost_connections() {
    let server =
        FakeServer::start(|_, command| (command == "SET").then_some(Action::ReplyAndClose(b"")));
    let mut options = options(&server.url());
    options.pool_size = 1;
    let (cache, _events) = start(options);
    let fatal = send(&cache, put(1, 7));
    let others: Vec<_> = (0..8).map(|_| send(&cache, get(1))).collect();
    assert_eq!(error_of(wait(&fatal)), ErrorKind::ConnectionLost);
    for other in &others {
        let outcome = wait(other);
        assert!(matches!(outcome, Ok(Outcome::Value(_))), "{outcome:?}");
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn serves_through_a_proxy_that_does_not_know_all_commands() {
    let server = FakeServer::start(|_, command| {
        matches!(command, "CLIENT" | "ECHO").then_some(Action::ReplyAndClose(b""))
    });
    let mut options = options(&server.url());
    options.pool_size = 1;
    let (cache, _events) = start(options);
    for _ in 0..3 {
        let outcome = call(&cache, get(1));
        assert!(matches!(outcome, Ok(Outcome::Value(_))), "{outcome:?}");
    }
    assert_eq!(server.connections(), 3);
}

/// Its replies may be those to other commands.
#[test]
fn does_not_serve_through_a_proxy_that_replies_otherwise() {
    let server = FakeServer::start(|_, command| {
        matches!(command, "CLIENT" | "ECHO").then_some(Action::Reply(b":1\r\n"))
    });
    let (cache, _events) = start(options(&server.url()));
    let error = call(&cache, get(1)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Protocol);
}
