//! A connection that tracks what is read.

use super::super::testing::*;
use super::*;
use crate::keyspace::testing::{key, no_index};
use crate::near::Validity;
use crate::near::boot_clock;
use crate::net::testing::{FakeServer, wait_until};
use crate::operation::{Get, Operation, Ping};
use std::sync::Arc;

const INVALIDATED: &str = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n";
const READ_ONLY: &str = "-READONLY You can't write against a read only replica.\r\n";

struct Tracking {
    server: FakeServer,
    shared: Arc<Shared>,
    live: LiveConnection,
    validity: Arc<Validity>,
    backlog: Backlog,
}

impl Tracking {
    fn new(max_staleness: Duration) -> Self {
        let server = FakeServer::tracking(|words| {
            let reply = match words[0].as_str() {
                "DEL" => READ_ONLY,
                "GET" => "$-1\r\n",
                _ => ":1\r\n",
            };
            Some(reply.to_owned())
        });
        let mut options = options(&server);
        options.max_staleness = Some(max_staleness);
        let (shared, _events) = shared(options);
        let validity = shared.validity.clone().unwrap();
        let client = connect_tracking(&shared);
        Self {
            live: LiveConnection::new(client, Some(&validity)),
            server,
            shared,
            validity,
            backlog: Backlog::default(),
        }
    }

    fn is_trusted(&self) -> bool {
        let stamp = self.validity.stamp(0);
        stamp.is_some_and(|stamp| self.validity.is_valid(stamp, boot_clock::now_us()))
    }

    /// Calls, and receives what arrives.
    fn call(&mut self, operation: Operation) -> Result<(), Error> {
        self.backlog.push(request(operation).0);
        let mut around = Surroundings {
            shared: &self.shared,
            watch: None,
            backlog: &mut self.backlog,
        };
        self.live.send(&mut around)?;
        self.live.receive(&mut around)
    }
}

#[test]
fn trust_is_renewed_by_what_asks_the_server_about_itself() {
    let mut tracking = Tracking::new(Duration::from_millis(30));
    wait_until(|| !tracking.is_trusted());
    let before = tracking.server.received("INFO");
    tracking.call(Operation::Ping(Ping)).unwrap();
    assert_eq!(tracking.server.received("INFO"), before + 2);
    let confirmed_at = tracking.live.client.confirmed_at().unwrap();
    let stamp = tracking.validity.stamp(0).unwrap();
    assert!(tracking.validity.is_valid(stamp, confirmed_at + 29_999));
    assert!(!tracking.validity.is_valid(stamp, confirmed_at + 30_000));
}

#[test]
fn a_heartbeat_renews_the_trust() {
    let mut tracking = Tracking::new(Duration::from_millis(3));
    let confirmed_at = tracking.live.client.confirmed_at();
    wait_until(|| tracking.live.heartbeat_due() <= Instant::now());
    tracking.live.heartbeat(&tracking.shared).unwrap();
    assert!(tracking.live.client.confirmed_at() > confirmed_at);
}

#[test]
fn a_reply_that_ends_the_connection_ends_the_trust_at_once() {
    let mut tracking = Tracking::new(LONG);
    assert!(tracking.is_trusted());
    assert!(tracking.call(delete(1)).is_err());
    assert!(!tracking.validity.is_tracking());
}

#[test]
fn changed_keys_are_known_while_nothing_is_asked() {
    let mut tracking = Tracking::new(LONG);
    tracking.server.say(INVALIDATED);
    wait_until(|| {
        tracking.live.read_pushes().unwrap();
        tracking.validity.invalidations() == 1
    });
    assert_eq!(tracking.live.watched_sockets().len(), 1);
    tracking.server.say(":1\r\n");
    wait_until(|| tracking.live.read_pushes().is_err());
}

#[test]
fn nothing_is_valid_while_what_has_arrived_is_not_read() {
    let mut tracking = Tracking::new(LONG);
    for number in 1..=3 {
        tracking.server.say(INVALIDATED);
        wait_until(|| !tracking.is_trusted());
        match number {
            1 => tracking.live.read_pushes().unwrap(),
            2 => tracking.call(Operation::Ping(Ping)).unwrap(),
            _ => {
                tracking.live.last_used -= HEARTBEAT_INTERVAL;
                tracking.live.heartbeat(&tracking.shared).unwrap();
            }
        }
        assert!(tracking.is_trusted());
        assert_eq!(tracking.validity.invalidations(), number);
    }
}

#[test]
fn a_connection_that_does_not_track_has_nothing_to_watch() {
    let mut tracking = Tracking::new(LONG);
    tracking.live = LiveConnection::new(connect(&tracking.shared), Some(&tracking.validity));
    assert!(tracking.live.watched_sockets().is_empty() && !tracking.validity.is_tracking());
}

#[test]
fn what_another_connection_may_have_overtaken_is_invalid() {
    let mut tracking = Tracking::new(LONG);
    let stamp = tracking.validity.stamp(0).unwrap();
    let other = LiveConnection::new(connect(&tracking.shared), None);
    let _tracks = std::mem::replace(&mut tracking.live, other);
    let get = || Get::new(key(&[&[97, 1]]), &no_index());
    tracking.call(Operation::Get(get())).unwrap();
    assert_eq!(tracking.validity.stamp(0), Some(stamp));
    tracking.call(Operation::Get(get().near())).unwrap();
    assert!(tracking.validity.stamp(0).unwrap() != stamp);
    assert_eq!(tracking.validity.ends(), [0; 6]);
}
