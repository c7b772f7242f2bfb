//! Calls of a cache, from the side of the caller.

use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use pow_redis_core::cache::CancelHandle;
use pow_redis_core::cache::{Cache, Event};
use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::layout::Layout;
use pow_redis_core::keyspace::pattern::Pattern;
use pow_redis_core::keyspace::ttl::Ttl;
use pow_redis_core::operation::{All, Delete, Get, Operation, Outcome, Put};
use pow_redis_core::options::Options;

use crate::redis_server::PATIENCE;

pub const NAMESPACE: &[u8] = &[109, 0, 0, 0, 2, b'n', b's'];
pub const ANY: &[u8] = &[119, 1, b'_'];
pub const HOUR: Ttl = Ttl::Millis(3_600_000);

/// What comes of one call.
pub type Answer = Receiver<Result<Outcome, Error>>;

/// How the caches of these tests are set up.
pub fn options(url: &str) -> Options {
    Options {
        pool_size: 1,
        max_queue: 4_096,
        timeout: PATIENCE,
        ..Options::for_url(url)
    }
}

/// Starts a cache, and takes its events.
pub fn start(options: Options) -> (Cache, Receiver<Event>) {
    let (sender, events) = unbounded();
    let observer = Box::new(move |event| {
        // A test may no longer want to know.
        let _ = sender.send(event);
    });
    (Cache::start(options, observer).unwrap(), events)
}

/// Starts a cache with one worker.
pub fn start_at(url: &str) -> Cache {
    start(options(url)).0
}

/// Submits without waiting for the answer.
pub fn submit(cache: &Cache, operation: Operation) -> Result<(Arc<CancelHandle>, Answer), Error> {
    let (sender, answer) = unbounded();
    let reply = Box::new(move |outcome| {
        let _ = sender.send(outcome);
    });
    Ok((cache.submit(operation, reply)?, answer))
}

/// Submits what must not be refused.
pub fn send(cache: &Cache, operation: Operation) -> Answer {
    submit(cache, operation).unwrap().1
}

/// Waits for an answer.
pub fn wait(answer: &Answer) -> Result<Outcome, Error> {
    // Later than any deadline of a call, so that a call that times out says so itself.
    answer.recv_timeout(2 * PATIENCE).unwrap()
}

/// Waits for an answer that says only that it was done.
pub fn wait_done(answer: &Answer) {
    let outcome = wait(answer);
    assert!(matches!(outcome, Ok(Outcome::Done)), "{outcome:?}");
}

/// Submits and waits.
pub fn call(cache: &Cache, operation: Operation) -> Result<Outcome, Error> {
    wait(&send(cache, operation))
}

/// The external term of the list of the namespace and these terms.
fn list(terms: &[&[u8]]) -> Vec<u8> {
    let number = u32::try_from(terms.len() + 1).unwrap().to_be_bytes();
    [&[131, 108], &number[..], NAMESPACE, &terms.concat(), &[106]].concat()
}

pub fn key(terms: &[&[u8]]) -> Key {
    Key::from_external(&list(terms)).unwrap()
}

/// The external term of a number.
pub fn number(value: u32) -> Vec<u8> {
    [&[131, 98], &value.to_be_bytes()[..]].concat()
}

/// The key `[namespace, number]`.
pub fn numbered(value: u32) -> Key {
    key(&[&number(value)[1..]])
}

pub fn put_all(records: Vec<(Key, Vec<u8>)>) -> Operation {
    Operation::Put(Put::new(records, HOUR, Layout::Indexed).unwrap())
}

/// Puts `value` under the key `[namespace, of]`.
pub fn put(of: u32, value: u32) -> Operation {
    put_all(vec![(numbered(of), number(value))])
}

pub fn get(of: u32) -> Operation {
    Operation::Get(Get::new(numbered(of)))
}

pub fn delete(of: u32) -> Operation {
    Operation::Delete(Delete::new(&numbered(of), Layout::Indexed))
}

pub fn all(terms: &[&[u8]], layout: Layout) -> Operation {
    let pattern = Pattern::from_external(&list(terms)).unwrap();
    Operation::All(Box::new(All::new(pattern, layout)))
}

/// What is under the key `[namespace, of]`.
pub fn value_of(cache: &Cache, of: u32) -> Option<Vec<u8>> {
    match call(cache, get(of)) {
        Ok(Outcome::Value(value)) => Some(value),
        Ok(Outcome::NotFound) => None,
        outcome => panic!("{outcome:?}"),
    }
}

/// The records of an `all`: parts without the namespace, and values, in their bytes' order.
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
