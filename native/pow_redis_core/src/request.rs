//! A request: an operation, its deadline, and who waits for the outcome.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::operation::{Operation, Outcome};

const WAITING: u8 = 0;
const ANSWERED: u8 = 1;
const CANCELLED: u8 = 2;

/// Takes what comes of an operation.
pub type Reply = Box<dyn FnOnce(Result<Outcome, Error>) + Send>;

/// Whether a request is still waited for. Exactly one of answer and cancellation wins.
#[derive(Debug, Default)]
pub struct Ticket {
    state: AtomicU8,
}

impl Ticket {
    /// Gives up waiting. `false` if the answer was sent or is just being sent.
    pub fn cancel(&self) -> bool {
        self.decide(CANCELLED)
    }

    fn answer(&self) -> bool {
        self.decide(ANSWERED)
    }

    fn decide(&self, state: u8) -> bool {
        self.state
            .compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING
    }
}

/// An operation that somebody waits for. It is answered exactly once, also when it is dropped.
pub struct Request {
    pub(crate) operation: Operation,
    deadline: Instant,
    ticket: Arc<Ticket>,
    reply: Option<Reply>,
}

impl Request {
    /// `reply` is called with the outcome, from a worker's thread.
    pub fn new(operation: Operation, deadline: Instant, reply: Reply) -> Self {
        Self {
            operation,
            deadline,
            ticket: Arc::default(),
            reply: Some(reply),
        }
    }

    /// With it, whoever waits can give up.
    pub fn ticket(&self) -> Arc<Ticket> {
        Arc::clone(&self.ticket)
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether somebody still waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.ticket.is_waiting()
    }

    /// Sends the outcome.
    pub(crate) fn answer(mut self, outcome: Result<Outcome, Error>) {
        self.send(outcome);
    }

    /// Takes the request back unanswered: its caller is told in another way.
    pub(crate) fn withdraw(mut self) {
        self.reply = None;
    }

    fn send(&mut self, outcome: Result<Outcome, Error>) {
        if let Some(reply) = self.reply.take().filter(|_| self.ticket.answer()) {
            reply(outcome);
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
    use super::*;
    use crate::operation::Ping;
    use crossbeam_channel::{Receiver, unbounded};

    fn request() -> (Request, Receiver<Result<Outcome, Error>>) {
        let (sender, receiver) = unbounded();
        let reply = Box::new(move |outcome| sender.send(outcome).unwrap());
        (
            Request::new(Operation::Ping(Ping), Instant::now(), reply),
            receiver,
        )
    }

    #[test]
    fn is_answered_once() {
        let (request, answers) = request();
        let ticket = request.ticket();
        request.answer(Ok(Outcome::Done));
        assert!(matches!(answers.recv(), Ok(Ok(Outcome::Done))));
        assert!(answers.recv().is_err());
        assert!(!ticket.cancel());
    }

    #[test]
    fn is_answered_when_dropped() {
        let (request, answers) = request();
        drop(request);
        assert!(matches!(answers.recv(), Ok(Err(error)) if error == ErrorKind::Closed.into()));
    }

    #[test]
    fn a_cancelled_request_says_nothing() {
        let (request, answers) = request();
        assert!(request.ticket().cancel());
        assert!(!request.is_waiting());
        request.answer(Ok(Outcome::Done));
        assert!(answers.recv().is_err());
    }
}
