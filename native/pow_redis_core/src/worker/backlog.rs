//! The requests that a worker has received and has still to send.

use std::collections::VecDeque;

use super::request::Request;

/// Requests to be sent, in the order in which they were received.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    requests: VecDeque<NumberedRequest>,
    /// The number of requests received so far.
    received: u64,
}

/// A request and its position among all that the worker has received.
#[derive(Debug)]
pub(crate) struct NumberedRequest {
    pub(super) number: u64,
    pub(super) request: Request,
}

impl Backlog {
    /// Appends a request.
    pub(crate) fn push(&mut self, request: Request) {
        let number = self.received;
        self.received += 1;
        self.requests.push_back(NumberedRequest { number, request });
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().map(|numbered| &numbered.request)
    }

    /// The request at a position.
    pub(super) fn get(&self, position: usize) -> Option<&Request> {
        self.requests
            .get(position)
            .map(|numbered| &numbered.request)
    }

    #[cfg(test)]
    pub(super) fn number(&self, position: usize) -> u64 {
        self.requests[position].number
    }

    /// Removes the request at a position.
    pub(super) fn take(&mut self, position: usize) -> Option<NumberedRequest> {
        self.requests.remove(position)
    }

    /// Puts a request back into its place: writes keep their order.
    pub(super) fn requeue(&mut self, numbered: NumberedRequest) {
        let place = self
            .requests
            .partition_point(|other| other.number < numbered.number);
        self.requests.insert(place, numbered);
    }

    /// Prepares the operations for another connection.
    pub(crate) fn reset(&mut self) {
        for numbered in &mut self.requests {
            numbered.request.operation.reset();
        }
    }

    /// Retains the requests that `keep` returns.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Request) -> Option<Request>) {
        for _ in 0..self.requests.len() {
            if let Some(NumberedRequest { number, request }) = self.requests.pop_front() {
                let kept = keep(request).map(|request| NumberedRequest { number, request });
                self.requests.extend(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Operation, Ping};
    use std::time::Instant;

    fn numbers(backlog: &Backlog) -> Vec<u64> {
        (0..backlog.len())
            .map(|position| backlog.number(position))
            .collect()
    }

    #[test]
    fn requests_return_to_their_places() {
        let mut backlog = Backlog::default();
        assert!(backlog.is_empty());
        for _ in 0..5 {
            let ping = Operation::Ping(Ping);
            backlog.push(Request::new(ping, Instant::now(), Box::new(|_| ())));
        }
        assert!(!backlog.is_empty());
        for position in [0, 2, 4] {
            let taken = backlog.take(position).unwrap();
            assert_eq!(backlog.len(), 4);
            backlog.requeue(taken);
            assert_eq!(numbers(&backlog), [0, 1, 2, 3, 4]);
        }
        let mut number = 0;
        backlog.retain(|request| {
            number += 1;
            (number % 2 == 0).then_some(request)
        });
        assert_eq!(numbers(&backlog), [1, 3]);
    }
}
