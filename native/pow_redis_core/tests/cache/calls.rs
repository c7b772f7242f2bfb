//! Calling a cache.

use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use pow_redis_core::cache::{Cache, CancelHandle, Event};
use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::keyspace::index::Index;
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::layout::Layout;
use pow_redis_core::keyspace::pattern::Pattern;
use pow_redis_core::keyspace::ttl::Ttl;
use pow_redis_core::net::address::Address;
use pow_redis_core::net::endpoint::Endpoint;
use pow_redis_core::operation::{All, Delete, Get, Operation, Outcome, Put};
use pow_redis_core::options::Options;
use redis::{ConnectionAddr, IntoConnectionInfo};

use crate::redis_server::DEADLINE;

pub const NAMESPACE: &[u8] = &[109, 0, 0, 0, 2, b'n', b's'];
pub const ANY: &[u8] = &[119, 1, b'_'];
pub const HOUR: Ttl = Ttl::Millis(3_600_000);

/// Receives the outcome of a call.
pub type PendingCall = Receiver<Result<Outcome, Error>>;

/// The options of a cache with one worker.
pub fn options(url: &str) -> Options {
    Options {
        pool_size: 1,
        max_queue: 4_096,
        timeout: DEADLINE,
        ..Options::for_endpoint(endpoint(url))
    }
}

/// The endpoint of a test server's URL.
fn endpoint(url: &str) -> Endpoint {
    let info = url.into_connection_info().unwrap();
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Address::Tcp {
            host: host.clone(),
            port: *port,
        },
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        other => panic!("no test server listens at {other}"),
    };
    let settings = info.redis_settings();
    let bytes = |text: &str| text.as_bytes().to_vec();
    Endpoint {
        username: settings.username().map(bytes),
        password: settings.password().map(|text| text.as_bytes().into()),
        database: settings.db(),
        ..Endpoint::new(address)
    }
}

/// Starts a cache. Returns it and its events.
pub fn start(options: Options) -> (Cache, Receiver<Event>) {
    let (sender, events) = unbounded();
    let observer = Box::new(move |event| {
        // The test may have dropped the receiver.
        let _ = sender.send(event);
    });
    (Cache::start(options, observer).unwrap(), events)
}

/// Starts a cache with one worker.
pub fn start_at(url: &str) -> Cache {
    start(options(url)).0
}

/// Submits an operation without waiting for the outcome.
pub fn submit(
    cache: &Cache,
    operation: Operation,
) -> Result<(Arc<CancelHandle>, PendingCall), Error> {
    let (sender, pending) = unbounded();
    let reply = Box::new(move |outcome| {
        let _ = sender.send(outcome);
    });
    Ok((cache.submit(operation, reply)?, pending))
}

/// Submits an operation that must not be rejected.
pub fn send(cache: &Cache, operation: Operation) -> PendingCall {
    submit(cache, operation).unwrap().1
}

/// Waits for the outcome of a call.
pub fn wait(pending: &PendingCall) -> Result<Outcome, Error> {
    // Longer than any timeout of a call, which is then the outcome.
    pending.recv_timeout(2 * DEADLINE).unwrap()
}

/// Waits for a call that must succeed without a result.
pub fn wait_done(pending: &PendingCall) {
    let outcome = wait(pending);
    assert!(matches!(outcome, Ok(Outcome::Done)), "{outcome:?}");
}

/// Submits an operation, and waits for the outcome.
pub fn call(cache: &Cache, operation: Operation) -> Result<Outcome, Error> {
    wait(&send(cache, operation))
}

/// The external term of a list: the namespace and these terms.
fn list(terms: &[&[u8]]) -> Vec<u8> {
    let count = u32::try_from(terms.len() + 1).unwrap().to_be_bytes();
    [&[131, 108], &count[..], NAMESPACE, &terms.concat(), &[106]].concat()
}

pub fn key(terms: &[&[u8]]) -> Key {
    Key::from_external(&list(terms)).unwrap()
}

/// A number as an external term.
pub fn number(value: u32) -> Vec<u8> {
    [&[131, 98], &value.to_be_bytes()[..]].concat()
}

/// The key `[namespace, id]`.
pub fn numbered_key(id: u32) -> Key {
    key(&[&number(id)[1..]])
}

pub fn put_all(records: Vec<(Key, Vec<u8>)>) -> Operation {
    Operation::Put(Put::new(records, HOUR, &every_prefix()).unwrap())
}

/// Puts `value` under the key `[namespace, id]`.
pub fn put(id: u32, value: u32) -> Operation {
    put_all(vec![(numbered_key(id), number(value))])
}

pub fn get(id: u32) -> Operation {
    Operation::Get(Get::new(numbered_key(id), &every_prefix()))
}

pub fn delete(id: u32) -> Operation {
    Operation::Delete(Delete::new(&numbered_key(id), &every_prefix()))
}

/// One server, with an index set for each prefix.
pub fn every_prefix() -> Arc<Layout> {
    Arc::new(Layout::standalone(Index::EveryPrefix))
}

/// One server, without index sets.
pub fn no_index() -> Arc<Layout> {
    Arc::new(Layout::standalone(Index::Patterns(Vec::new())))
}

pub fn all(terms: &[&[u8]], layout: &Arc<Layout>) -> Operation {
    let pattern = Pattern::from_external(&list(terms)).unwrap();
    Operation::All(Box::new(All::new(pattern, layout)))
}

/// The value of the key `[namespace, id]`.
pub fn value_of(cache: &Cache, id: u32) -> Option<Vec<u8>> {
    match call(cache, get(id)) {
        Ok(Outcome::Value(value)) => Some(value),
        Ok(Outcome::NotFound) => None,
        outcome => panic!("{outcome:?}"),
    }
}

/// The records of an outcome, sorted by their bytes. The keys have no namespace.
pub fn records(outcome: Result<Outcome, Error>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Ok(Outcome::Records { records, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    let records = records.iter();
    let mut records: Vec<_> = records.map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    records.sort();
    records
}

/// The error of a call that failed.
pub fn error_of(outcome: Result<Outcome, Error>) -> ErrorKind {
    outcome.unwrap_err().kind().clone()
}
