//! Test support: requests, and what the workers share.

#![cfg(test)]

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::request::Request;
use super::shared::{Event, Shared};
use crate::error::Error;
use crate::keyspace::testing::{key, no_index};
use crate::net::client::Client;
use crate::net::config::{ConnectConfig, Topology};
use crate::net::fence::Fence;
use crate::net::primary_watch::PrimaryWatch;
use crate::net::testing::{FakeServer, array};
use crate::net::tracking::Tracking;
use crate::operation::{Delete, Get, Operation, Outcome};
use crate::options::Options;

/// Longer than any test takes.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// How long a call may take: the server may be silent for half of it.
pub(super) const TIMEOUT: Duration = Duration::from_secs(4);

/// Never ends.
pub(super) fn hang() -> ! {
    loop {
        thread::park();
    }
}

pub(super) fn get(number: u8) -> Operation {
    Operation::Get(Get::new(key(&[&[97, number]]), &no_index()))
}

/// A write.
pub(super) fn delete(number: u8) -> Operation {
    Operation::Delete(Delete::new(&key(&[&[97, number]]), &no_index()))
}

/// A request, and the receiver of its outcome.
pub(super) fn request(operation: Operation) -> (Request, Receiver<Result<Outcome, Error>>) {
    request_until(operation, Instant::now() + LONG)
}

/// A request with this deadline.
pub(super) fn request_until(
    operation: Operation,
    deadline: Instant,
) -> (Request, Receiver<Result<Outcome, Error>>) {
    let (sender, outcome) = unbounded();
    let reply = Box::new(move |outcome| drop(sender.send(outcome)));
    (Request::new(operation, deadline, reply), outcome)
}

pub(super) fn options(server: &FakeServer) -> Options {
    let mut options = Options::for_endpoint(server.endpoint());
    options.timeout = TIMEOUT;
    options
}

/// What workers share, and the events.
pub(super) fn shared(options: Options) -> (Arc<Shared>, Receiver<Event>) {
    let (sender, events) = unbounded();
    let observer = Box::new(move |event| drop(sender.send(event)));
    (Arc::new(Shared::new(options, observer)), events)
}

pub(super) fn connect(shared: &Shared) -> Client {
    let deadline = Instant::now() + LONG;
    Client::connect(&shared.options.connect, &Fence::default(), deadline).unwrap()
}

/// A connection that tracks what is read.
pub(super) fn connect_tracking(shared: &Shared) -> Client {
    let tracking = shared.validity.clone().map(|validity| Tracking {
        validity,
        is_cluster: false,
    });
    let config = ConnectConfig {
        tracking,
        ..shared.options.connect.clone()
    };
    Client::connect(&config, &Fence::default(), Instant::now() + LONG).unwrap()
}

/// A sentinel that names a primary.
pub(super) struct Sentinel {
    pub(super) server: FakeServer,
    /// The primary's port, and the epoch of the configuration.
    primary: Arc<Mutex<(u16, u64)>>,
}

impl Sentinel {
    /// A sentinel that names a primary at this port.
    pub(super) fn start(port: u16) -> Self {
        let primary = Arc::new(Mutex::new((port, 1)));
        let named = Arc::clone(&primary);
        let server = FakeServer::start(move |_| {
            let (port, epoch) = *named.lock().unwrap();
            let (port, epoch) = (port.to_string(), epoch.to_string());
            let host = ["ip", "127.0.0.1", "port", &port];
            Some(array(&[&host[..], &["config-epoch", &epoch]].concat()))
        });
        Self { server, primary }
    }

    /// Names another primary.
    pub(super) fn name(&self, port: u16, epoch: u64) {
        *self.primary.lock().unwrap() = (port, epoch);
    }

    /// What the workers of this primary share, and the watch.
    pub(super) fn shared(&self, primary: &FakeServer) -> (Arc<Shared>, Arc<PrimaryWatch>) {
        let mut options = options(primary);
        options.connect.topology = Topology::Sentinel {
            sentinels: vec![self.server.endpoint()],
            group: "group".to_owned(),
        };
        // Only the worker asks.
        let (_, stopped) = bounded(0);
        let watch = PrimaryWatch::start(&options.connect, || false, stopped);
        (shared(options).0, watch.unwrap().unwrap())
    }
}
