//! Peers that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pow_redis_core::error::ErrorKind;
use pow_redis_core::operation::{Operation, Outcome, Ping};

use crate::calls::*;
use crate::fake_server::{Answer, FakeServer};
use crate::redis_server::eventually;

/// A peer whose first connection gives this answer to `GET` and `SET`; later ones are as usual.
fn first_answers(answer: Answer) -> FakeServer {
    FakeServer::start(move |connection, command| {
        (connection == 0 && matches!(command, "GET" | "SET")).then_some(answer)
    })
}

#[test]
fn a_reply_that_breaks_off_is_asked_for_again() {
    for begin in ["", "$", "$3", "$3\r\n", "$3\r\n\u{1}", "$3\r\nabc\r"] {
        let peer = first_answers(Answer::Last(begin.as_bytes()));
        let cache = start_at(&peer.url());
        let answers = [send(&cache, get(1)), send(&cache, get(1))];
        for answer in &answers {
            let outcome = wait(answer);
            assert!(
                matches!(outcome, Ok(Outcome::Value(_))),
                "{begin:?}: {outcome:?}"
            );
        }
        let info = cache.info();
        assert!(
            info.retries >= 1 && info.reconnects == 1,
            "{begin:?}: {info:?}"
        );
    }
}

#[test]
fn garbage_is_not_read_on() {
    for garbage in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0", "*x\r\n"] {
        let peer = first_answers(Answer::Reply(garbage.as_bytes()));
        let cache = start_at(&peer.url());
        let outcome = call(&cache, get(1));
        assert!(
            matches!(outcome, Ok(Outcome::Value(_))),
            "{garbage:?}: {outcome:?}"
        );
        assert_eq!(peer.connections(), 2, "{garbage:?}");
    }
}

#[test]
fn who_talks_garbage_for_ever_is_given_up() {
    let peer =
        FakeServer::start(|_, command| (command == "GET").then_some(Answer::Reply(b"?\r\n")));
    let mut options = options(&peer.url());
    options.timeout = Duration::from_secs(3);
    let (cache, _events) = start(options);
    let error = error_of(call(&cache, get(1)));
    assert!(
        matches!(error, ErrorKind::Protocol | ErrorKind::Timeout),
        "{error:?}"
    );
    assert!(
        (2..20).contains(&peer.connections()),
        "{}",
        peer.connections()
    );
}

#[test]
fn a_server_that_is_not_ready_is_asked_again() {
    for reply in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-MASTERDOWN Availability with MASTER is down\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    ] {
        let peer = first_answers(Answer::Reply(reply.as_bytes()));
        let cache = start_at(&peer.url());
        wait_done(&send(&cache, put(1, 1)));
        assert_eq!(peer.connections(), 2, "{reply}");

        let peer = FakeServer::start(|connection, command| {
            (connection == 0 && command == "INFO").then_some(Answer::Reply(reply.as_bytes()))
        });
        let cache = start_at(&peer.url());
        wait_done(&send(&cache, put(1, 1)));
        assert_eq!(peer.connections(), 2, "{reply}");
    }
}

/// The second write may have been done already; were the first alone sent again, it would come last.
#[test]
fn writes_behind_one_that_is_refused_are_sent_again_with_it() {
    let (arrive, arrived) = crossbeam_channel::bounded(1);
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    let sets = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = Arc::clone(&sets);
    let peer = FakeServer::start(move |connection, command| match command {
        // Both puts come while the worker connects, so that they are sent together.
        "TIME" if connection == 0 => {
            let _ = arrive.send(());
            let _ = gate.recv();
            None
        }
        "SET" => {
            let before = counted[connection].fetch_add(1, Ordering::AcqRel);
            let refusal =
                Answer::Reply(b"-READONLY You can't write against a read only replica.\r\n");
            (connection == 0 && before == 0).then_some(refusal)
        }
        _ => None,
    });
    let cache = start_at(&peer.url());
    arrived.recv().unwrap();
    let answers = [send(&cache, put(1, 1)), send(&cache, put(1, 2))];
    drop(open);
    answers.iter().for_each(wait_done);
    assert_eq!(sets[0].load(Ordering::Acquire), 2);
    assert_eq!(sets[1].load(Ordering::Acquire), 2);
}

#[test]
fn other_errors_go_to_the_caller() {
    for (reply, kind) in [
        ("-OOM command not allowed\r\n", "redis answered OOM"),
        ("-NOPERM no permission\r\n", "redis answered NOPERM"),
        ("-ERR about the key g2EB\r\n", "redis answered ERR"),
        ("-secret:7 of the peer\r\n", "redis answered ERR"),
    ] {
        let peer = first_answers(Answer::Reply(reply.as_bytes()));
        let cache = start_at(&peer.url());
        let error = call(&cache, put(1, 1)).unwrap_err();
        assert_eq!(error.to_string(), kind);
        assert_eq!(call(&cache, get(1)).unwrap_err().to_string(), kind);
        assert_eq!(peer.connections(), 1, "{reply}");
    }
}

#[test]
fn a_reply_of_another_kind_costs_its_caller_and_the_connection() {
    let peer = first_answers(Answer::Reply(b":7\r\n"));
    let cache = start_at(&peer.url());
    assert_eq!(error_of(call(&cache, get(1))), ErrorKind::Protocol);
    assert!(matches!(
        call(&cache, Operation::Ping(Ping)),
        Ok(Outcome::Done)
    ));
    assert_eq!(peer.connections(), 2);
}

#[test]
fn a_silent_peer_costs_one_timeout() {
    let peer = first_answers(Answer::Silence);
    let mut options = options(&peer.url());
    options.timeout = Duration::from_millis(900);
    let (cache, _events) = start(options);
    assert_eq!(error_of(call(&cache, get(1))), ErrorKind::Timeout);
    // The answer to the first call may still come: on a connection that nobody reads any more.
    eventually("the next connection answers", || {
        matches!(call(&cache, get(1)), Ok(Outcome::Value(_)))
    });
    assert_eq!(peer.connections(), 2);
}

#[test]
fn a_peer_that_is_silent_at_the_login_costs_one_timeout() {
    let peer = FakeServer::start(|connection, _| (connection == 0).then_some(Answer::Silence));
    let mut options = options(&peer.url());
    options.connect.timeout = Duration::from_millis(1_500);
    let (cache, _events) = start(options);
    let outcome = call(&cache, get(1));
    assert!(matches!(outcome, Ok(Outcome::Value(_))), "{outcome:?}");
    assert_eq!(peer.connections(), 2);
}
