//! A request: an operation, its deadline, and the caller that waits for the outcome.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::quota::Share;
use crate::error::{Error, ErrorKind};
use crate::near::{Shard, Validity};
use crate::operation::{Operation, Outcome};

const WAITING: u8 = 0;
const COMPLETED: u8 = 1;
const CANCELLED: u8 = 2;

/// Receives the outcome of an operation.
pub type Reply = Box<dyn FnOnce(Result<Outcome, Error>) + Send>;

/// Cancels a request. Exactly one of completion and cancellation wins.
#[derive(Debug, Default)]
pub struct CancelHandle {
    state: AtomicU8,
    /// Why the server last refused the request, which has been sent again since or will be.
    refusal: Mutex<Option<Error>>,
}

impl CancelHandle {
    /// Stops waiting. Returns `false` if the outcome has been sent or is being sent.
    pub fn cancel(&self) -> bool {
        self.transition(CANCELLED)
    }

    /// Why the server last refused the request, if it has.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let refusal = self.refusal.lock();
        refusal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn complete(&self) -> bool {
        self.transition(COMPLETED)
    }

    fn transition(&self, state: u8) -> bool {
        self.state
            .compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING
    }
}

/// An operation that a caller waits for.
///
/// Invariant: a request is completed exactly once, also when it is dropped.
pub struct Request {
    pub(crate) operation: Operation,
    deadline: Instant,
    cancel_handle: Arc<CancelHandle>,
    reply: Option<Reply>,
    /// How many connections in a row were lost while it was under way.
    losses: u32,
    /// Its place in a queue.
    place: Option<Share>,
    /// Its bytes.
    bytes: Option<Share>,
    /// What it makes invalid, if it is a write.
    changes: Option<Changes>,
}

/// The shards of the keys that a write changes.
#[derive(Debug)]
struct Changes {
    validity: Arc<Validity>,
    shards: Vec<Shard>,
}

impl Request {
    /// A request whose outcome is given to `reply`, on a worker's thread.
    pub fn new(operation: Operation, deadline: Instant, reply: Reply) -> Self {
        Self {
            operation,
            deadline,
            cancel_handle: Arc::default(),
            reply: Some(reply),
            losses: 0,
            place: None,
            bytes: None,
            changes: None,
        }
    }

    /// What was read of the keys that it writes is invalid from now on, and again when it is completed: until
    /// then, reads may still find the old values.
    #[must_use]
    pub(crate) fn invalidating(mut self, validity: &Arc<Validity>) -> Self {
        let shards = self.operation.written_keys().map(|key| validity.shard(key));
        let changes = Changes {
            shards: shards.collect(),
            validity: Arc::clone(validity),
        };
        changes.invalidate();
        self.changes = Some(changes);
        self
    }

    /// Gives it a place in a queue, and shares of a quota for its bytes until it is completed.
    #[must_use]
    pub(crate) fn with_shares(mut self, place: Share, bytes: Share) -> Self {
        self.place = Some(place);
        self.bytes = Some(bytes);
        self
    }

    /// Returns its place in the queue: a worker has received it.
    pub(crate) fn leave_queue(&mut self) {
        self.place = None;
    }

    /// The handle with which the caller can stop waiting.
    pub fn cancel_handle(&self) -> Arc<CancelHandle> {
        Arc::clone(&self.cancel_handle)
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the caller still waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.cancel_handle.is_waiting()
    }

    /// The server has refused it for now. If it waits in vain, its caller gets this reason.
    pub(crate) fn refused(&self, reason: Error) {
        let refusal = self.cancel_handle.refusal.lock();
        *refusal.unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Why the server last refused it, if it has.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.cancel_handle.refusal()
    }

    /// A connection was lost while it was under way. Returns how many in a row.
    pub(crate) const fn count_loss(&mut self) -> u32 {
        self.losses += 1;
        self.losses
    }

    /// Whether a connection was lost while it was under way. It may be the reason for that.
    pub(crate) const fn is_suspect(&self) -> bool {
        self.losses > 0
    }

    /// Sends the outcome.
    pub(crate) fn complete(mut self, outcome: Result<Outcome, Error>) {
        self.send(outcome);
    }

    /// Takes the request back unanswered: its caller is reported in another way.
    pub(crate) fn discard(mut self) {
        self.reply = None;
    }

    fn send(&mut self, outcome: Result<Outcome, Error>) {
        // Before the reply: the caller's next request may need the same bytes.
        self.bytes = None;
        if let Some(changes) = self.changes.take() {
            changes.invalidate();
        }
        if let Some(reply) = self.reply.take().filter(|_| self.cancel_handle.complete()) {
            reply(outcome);
        }
    }
}

impl Changes {
    fn invalidate(&self) {
        for &shard in &self.shards {
            self.validity.invalidate(shard);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.send(Err(ErrorKind::Closed.into()));
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::quota::Quota;
    use super::*;
    use crate::keyspace::testing::{key, no_index};
    use crate::operation::{Delete, Ping};
    use crossbeam_channel::{Receiver, unbounded};
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    fn request() -> (Request, Receiver<Result<Outcome, Error>>) {
        let (sender, receiver) = unbounded();
        let reply = Box::new(move |outcome| drop(sender.send(outcome)));
        (
            Request::new(Operation::Ping(Ping), Instant::now(), reply),
            receiver,
        )
    }

    #[test]
    fn is_completed_once() {
        let (request, answers) = request();
        let handle = request.cancel_handle();
        request.complete(Ok(Outcome::Done));
        assert!(matches!(answers.recv(), Ok(Ok(Outcome::Done))));
        assert!(answers.recv().is_err());
        assert!(!handle.cancel());
    }

    #[test]
    fn is_completed_when_dropped() {
        let (request, answers) = request();
        drop(request);
        assert!(matches!(answers.recv(), Ok(Err(error)) if error == ErrorKind::Closed.into()));
    }

    #[test]
    fn a_cancelled_request_sends_nothing() {
        let (request, answers) = request();
        assert!(request.is_waiting());
        assert!(request.cancel_handle().cancel());
        assert!(!request.is_waiting());
        request.complete(Ok(Outcome::Done));
        assert!(answers.recv().is_err());
    }

    #[test]
    fn a_discarded_request_sends_nothing() {
        let (request, answers) = request();
        request.discard();
        assert!(answers.recv().is_err());
    }

    #[test]
    fn returns_its_place_when_it_leaves_the_queue_and_its_bytes_at_the_end() {
        let (places, bytes) = (Quota::new(1), Quota::new(10));
        let (request, _answers) = request();
        let mut request = request.with_shares(places.take(1).unwrap(), bytes.take(7).unwrap());
        assert_eq!((places.taken(), bytes.taken()), (1, 7));
        request.leave_queue();
        assert_eq!((places.taken(), bytes.taken()), (0, 7));
        request.complete(Ok(Outcome::Done));
        assert_eq!(bytes.taken(), 0);
    }

    #[test]
    fn counts_lost_connections() {
        let (mut request, _answers) = request();
        assert!(!request.is_suspect());
        assert_eq!([request.count_loss(), request.count_loss()], [1, 2]);
        assert!(request.is_suspect());
    }

    #[test]
    fn a_write_invalidates_its_keys_when_it_is_submitted_and_when_it_is_completed() {
        let validity = Arc::new(Validity::new(Duration::from_secs(1)));
        let written = key(&[&[97, 1]]);
        let shard = validity.shard(written.redis_key().as_bytes());
        validity.begin();
        let version = || validity.stamp(shard).unwrap().version;
        let at_reply = Arc::new(AtomicU32::new(0));
        let delete = || Operation::Delete(Delete::new(&written, &no_index()));
        let (seen, watched) = (Arc::clone(&at_reply), Arc::clone(&validity));
        let reply = Box::new(move |_| {
            let stamp = watched.stamp(shard).unwrap();
            seen.store(stamp.version, Ordering::Relaxed);
        });
        let request = Request::new(delete(), Instant::now(), reply).invalidating(&validity);
        assert_eq!(version(), 1);
        request.complete(Ok(Outcome::Done));
        assert_eq!((version(), at_reply.load(Ordering::Relaxed)), (2, 2));

        // Redis may run it although nobody waits any more.
        let request = Request::new(delete(), Instant::now(), Box::new(|_| ()));
        let request = request.invalidating(&validity);
        request.cancel_handle().cancel();
        drop(request);
        assert_eq!(version(), 4);
    }
}
