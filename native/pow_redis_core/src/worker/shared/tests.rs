use super::super::testing::{LONG, connect, options, shared};
use super::*;
use crate::etf;
use crate::net::connection::Connection;
use crate::net::standalone::Standalone;
use crate::net::stream::Stream;
use crate::net::testing::FakeServer;
use crate::operation::records::Records;
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::time::Duration;

fn server() -> FakeServer {
    FakeServer::start(|_| None)
}

fn fixture() -> (Arc<Shared>, Receiver<Event>) {
    shared(options(&server()))
}

fn all(events: &Receiver<Event>) -> Vec<Event> {
    events.try_iter().collect()
}

#[test]
fn reports_changes_and_knows_the_server() {
    let server = server();
    let (shared, events) = shared(options(&server));
    let client = connect(&shared);
    shared.connected(&client, false);
    shared.connected(&client, true);
    let version = client.version().map(str::to_owned);
    assert!(version.is_some());
    assert_eq!(
        all(&events),
        [Event::Connected {
            version: version.clone()
        }]
    );
    let info = shared.info(3, 4);
    let address = format!("127.0.0.1:{}", server.port);
    assert_eq!((info.server, info.version), (Some(address), version));
    assert_eq!((info.connected, info.reconnects), (true, 1));
    assert_eq!((info.queue, info.queue_bytes), (3, 4));
    let error = Error::from(ErrorKind::Disconnected);
    shared.failed(&error);
    assert!(all(&events).is_empty(), "a worker is connected");
    shared.availability.lost();
    shared.availability.lost();
    shared.failed(&error);
    assert_eq!(all(&events), [Event::Disconnected(error)]);
}

#[test]
fn reports_once_that_the_server_does_not_tell_its_time() {
    let server = server();
    let (shared, events) = shared(options(&server));
    let stream = Stream::open(&server.endpoint(), Instant::now() + LONG).unwrap();
    let connection = Connection::over(stream);
    let client = Standalone::new(server.endpoint(), connection);
    let client = Client::Standalone(Box::new(client));
    assert!(client.clock().is_local());
    shared.connected(&client, false);
    let expected = [Event::Connected { version: None }, Event::LocalClock];
    assert_eq!(all(&events), expected);
    shared.connected(&client, false);
    assert!(all(&events).is_empty());
}

#[test]
fn is_down_after_the_timeout_of_a_call() {
    for (timeout, is_down) in [(LONG, false), (Duration::ZERO, true)] {
        let mut options = options(&server());
        options.timeout = timeout;
        let (shared, _events) = shared(options);
        assert_eq!(shared.is_down(), is_down);
        shared.availability.connected();
        assert!(!shared.is_down());
    }
}

#[test]
fn a_call_times_out_for_the_reason_that_is_known() {
    let (shared, _events) = fixture();
    let refusal = || Some(ErrorKind::Busy.into());
    assert_eq!(shared.timeout_error(None), ErrorKind::Timeout.into());
    assert_eq!(shared.timeout_error(refusal()), ErrorKind::Busy.into());
    shared.failed(&ErrorKind::Url.into());
    assert_eq!(shared.timeout_error(refusal()), ErrorKind::Url.into());
    shared.availability.connected();
    assert_eq!(shared.timeout_error(refusal()), ErrorKind::Busy.into());
}

#[test]
fn is_down_once_a_call_has_waited_in_vain() {
    let (shared, _events) = fixture();
    shared.waited_in_vain(Instant::now() + shared.options.timeout);
    assert!(shared.is_down());
    assert_eq!(shared.outage_error().kind(), &ErrorKind::Disconnected);
    shared.availability.connected();
    assert!(!shared.is_down());
}

#[test]
fn reports_invalid_values() {
    let (shared, events) = fixture();
    let records = |invalid| Outcome::Records {
        records: Records::default(),
        invalid,
        unopened: BTreeMap::new(),
    };
    let invalid = Outcome::Invalid(etf::check(b"").unwrap_err());
    for outcome in [Outcome::Done, records(0), records(2), invalid] {
        shared.report_invalid(&outcome);
    }
    assert_eq!(all(&events), [Event::Invalid(2), Event::Invalid(1)]);
}

#[test]
fn reports_and_counts_values_that_do_not_open() {
    let (shared, events) = fixture();
    let reasons = [(Unopened::Expired, 2), (Unopened::Tampered, 3)];
    let records = Outcome::Records {
        records: Records::default(),
        invalid: 0,
        unopened: BTreeMap::from(reasons),
    };
    let unopened = Outcome::Unopened(Unopened::UnknownKey);
    for outcome in [Outcome::Done, records, unopened] {
        shared.report_unopened(&outcome);
    }
    let expected = [
        Event::Unopened(Unopened::Tampered, 3),
        Event::Unopened(Unopened::Expired, 2),
        Event::Unopened(Unopened::UnknownKey, 1),
    ];
    assert_eq!(all(&events), expected);
    assert_eq!(shared.info(0, 0).unopened, 6);
}

#[test]
fn counts_calls_and_workers() {
    let (shared, events) = fixture();
    (0..3).for_each(|_| shared.count_call());
    (0..2).for_each(|_| shared.worker_starts());
    (0..2).for_each(|_| shared.worker_is_free(true));
    shared.worker_is_free(false);
    shared.worker_ended();
    let info = shared.info(0, 0);
    assert_eq!((info.calls, info.workers, shared.free_workers()), (3, 1, 1));
    assert!(all(&events).is_empty());
    shared.worker_ended();
    assert_eq!(all(&events), [Event::Stopped]);
}
