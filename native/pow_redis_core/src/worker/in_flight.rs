//! The requests that a worker has sent, and whose replies are outstanding.

use std::collections::VecDeque;
use std::time::Instant;

use super::backlog::{Backlog, NumberedRequest};
use super::request::Request;
use crate::near::Validity;
use crate::net::server_clock::ServerClock;
use crate::operation::WriteContext;
use crate::resp::commands::Commands;

/// Nothing is sent while commands of this many bytes are in flight.
const MAX_BYTES: usize = 1 << 20;

/// Requests in flight.
///
/// Invariant: replies arrive in this order.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    sent: VecDeque<Sent>,
    /// The length of their commands.
    bytes: usize,
}

#[derive(Debug)]
struct Sent {
    numbered: NumberedRequest,
    replies: usize,
    bytes: usize,
    sent_at: Instant,
}

impl InFlight {
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.sent.iter().map(|sent| &sent.numbered.request)
    }

    /// The latest deadline of the requests in flight.
    pub(crate) fn last_deadline(&self) -> Option<Instant> {
        self.requests().map(Request::deadline).max()
    }

    /// Takes requests from the backlog and appends their commands, up to about `batch_bytes`. A request that
    /// may be the reason for a lost connection is sent alone, so that no other is lost with it again.
    pub(crate) fn write(
        &mut self,
        backlog: &mut Backlog,
        clock: ServerClock,
        validity: Option<&Validity>,
        batch_bytes: usize,
        commands: &mut Commands,
    ) {
        let now_ms = clock.now_ms();
        let sent_at = Instant::now();
        // Writes keep their order: a write of several rounds holds up those behind it.
        let mut holds_writes = self.sent.iter().any(Sent::is_long_write);
        let mut held = 0;
        while !self.is_exclusive()
            && self.bytes < MAX_BYTES
            && commands.as_bytes().len() < batch_bytes
        {
            let Some(request) = backlog.get(held) else {
                break;
            };
            if request.is_suspect() && !self.is_empty() {
                break;
            }
            if request.operation.is_write() && holds_writes {
                held += 1;
                continue;
            }
            let Some(mut numbered) = backlog.take(held) else {
                break;
            };
            let operation = &mut numbered.request.operation;
            holds_writes |= operation.is_long_write();
            let (commands_before, bytes_before) = (commands.len(), commands.as_bytes().len());
            operation.write(&mut WriteContext {
                commands,
                now_ms,
                round_trip: clock.round_trip(),
                validity,
            });
            let bytes = commands.as_bytes().len() - bytes_before;
            self.bytes += bytes;
            self.sent.push_back(Sent {
                numbered,
                replies: commands.len() - commands_before,
                bytes,
                sent_at,
            });
        }
    }

    /// Whether nothing may be sent beside what is in flight.
    fn is_exclusive(&self) -> bool {
        let first = self.sent.front();
        first.is_some_and(|sent| sent.numbered.request.is_suspect())
    }

    /// The request whose replies come next, and how many there are.
    pub(crate) fn front(&mut self) -> Option<(&mut Request, usize)> {
        let sent = self.sent.front_mut()?;
        Some((&mut sent.numbered.request, sent.replies))
    }

    /// When that request was sent.
    pub(crate) fn front_sent_at(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.sent_at)
    }

    /// Removes that request.
    pub(crate) fn pop_front(&mut self) -> Option<Request> {
        self.take_front().map(|numbered| numbered.request)
    }

    /// Puts that request back into the backlog.
    pub(crate) fn requeue_front(&mut self, backlog: &mut Backlog) {
        if let Some(numbered) = self.take_front() {
            backlog.requeue(numbered);
        }
    }

    /// Puts all requests back into the backlog: no reply will come. Returns how many there were. Those that
    /// `keep` does not return are dropped.
    pub(crate) fn requeue_all(
        &mut self,
        backlog: &mut Backlog,
        mut keep: impl FnMut(Request) -> Option<Request>,
    ) -> usize {
        let requests = self.len();
        while let Some(NumberedRequest { number, request }) = self.take_front() {
            if let Some(request) = keep(request) {
                backlog.requeue(NumberedRequest { number, request });
            }
        }
        requests
    }

    fn take_front(&mut self) -> Option<NumberedRequest> {
        let sent = self.sent.pop_front()?;
        self.bytes -= sent.bytes;
        Some(sent.numbered)
    }
}

impl Sent {
    fn is_long_write(&self) -> bool {
        self.numbered.request.operation.is_long_write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::testing::{key, no_index};
    use crate::keyspace::ttl::Ttl;
    use crate::operation::{Get, Operation, Put, Reindex, ReindexMode, ScanPosition, Step};
    use crate::resp::replies::Replies;
    use crate::resp::testing::{lines, okays, page};
    use std::time::Duration;

    /// A small integer as a term.
    fn number(number: u8) -> [u8; 2] {
        [97, number]
    }

    fn get(of: u8) -> Operation {
        Operation::Get(Get::new(key(&[&number(of)]), &no_index()))
    }

    /// A put of `records` records with values of `bytes` bytes.
    fn put(of: u8, records: u8, bytes: usize) -> Operation {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        let value = [&[131, 109], &length[..], &vec![0; bytes]].concat();
        let records =
            (0..records).map(|record| (key(&[&number(of), &number(record)]), value.clone()));
        let put = Put::new(records.collect(), Ttl::Persistent, &no_index());
        Operation::Put(put.unwrap())
    }

    /// A put of 768 records in two rounds: 512 records are one.
    fn long_put() -> Operation {
        let mut records = Vec::new();
        for of in 0..3 {
            for record in 0..=255 {
                records.push((key(&[&number(of), &number(record)]), vec![131, 97, 0]));
            }
        }
        Operation::Put(Put::new(records, Ttl::Persistent, &no_index()).unwrap())
    }

    /// What a worker would hold.
    #[derive(Default)]
    struct Requests {
        backlog: Backlog,
        in_flight: InFlight,
    }

    impl Requests {
        fn new(operations: Vec<Operation>) -> Self {
            let mut requests = Self::default();
            for operation in operations {
                let deadline = Instant::now() + Duration::from_secs(60);
                let request = Request::new(operation, deadline, Box::new(|_| ()));
                requests.backlog.push(request);
            }
            requests
        }

        /// Sends all that may be sent. Returns the names of the commands.
        fn write(&mut self) -> Vec<String> {
            self.write_batch(usize::MAX)
        }

        fn write_batch(&mut self, batch_bytes: usize) -> Vec<String> {
            let mut commands = Commands::new();
            self.in_flight.write(
                &mut self.backlog,
                ServerClock::local(Duration::ZERO),
                None,
                batch_bytes,
                &mut commands,
            );
            let name = |line: &String| line.split(' ').next().unwrap().to_owned();
            lines(commands.as_bytes()).iter().map(name).collect()
        }

        fn requeue_front(&mut self) {
            self.in_flight.requeue_front(&mut self.backlog);
        }

        fn requeue_all(&mut self) -> usize {
            self.in_flight.requeue_all(&mut self.backlog, Some)
        }

        fn len(&self) -> usize {
            self.backlog.len() + self.in_flight.len()
        }

        /// The positions at which the requests of the backlog were received.
        fn backlog_numbers(&self) -> Vec<u64> {
            (0..self.backlog.len())
                .map(|position| self.backlog.number(position))
                .collect()
        }
    }

    #[test]
    fn a_request_in_flight_is_not_sent_again() {
        let mut requests = Requests::new(vec![get(1), put(2, 1, 1)]);
        assert_eq!(requests.write(), ["GET", "SET"]);
        assert!(!requests.in_flight.is_empty() && requests.write().is_empty());
        assert!(matches!(requests.in_flight.front(), Some((_, 1))));
        assert!(requests.in_flight.pop_front().is_some());
        assert_eq!(requests.len(), 1);
        assert_eq!(requests.requeue_all(), 1);
        assert!(requests.in_flight.is_empty());
        assert_eq!(requests.write(), ["SET"]);
        requests.in_flight.pop_front();
        assert_eq!(requests.in_flight.bytes, 0);
    }

    #[test]
    fn a_write_of_several_rounds_holds_up_those_behind_it() {
        let mut requests = Requests::new(vec![long_put(), put(4, 1, 1), get(1)]);
        let first = requests.write();
        assert_eq!((first.len(), first.last().unwrap().as_str()), (513, "GET"));
        assert!(requests.write().is_empty());

        let (request, replies) = requests.in_flight.front().unwrap();
        let step = request.operation.read(Replies::new(okays(replies)));
        assert!(matches!(step, Ok(Step::Again)));
        requests.requeue_front();
        // The rest of the first write, and the second.
        assert_eq!(requests.write().len(), 256 + 1);
    }

    #[test]
    fn a_requeued_request_keeps_its_place() {
        let operations = vec![put(1, 1, 1), put(2, 2, 1), put(3, 3, 1), put(4, 4, 1)];
        let mut requests = Requests::new(operations);
        assert_eq!(requests.write().len(), 1 + 2 + 3 + 4);
        (0..3).for_each(|_| requests.requeue_front());
        requests.write();
        let front = requests.in_flight.front();
        assert!(matches!(front, Some((_, 4))), "still in flight");
        assert_eq!(requests.requeue_all(), 4);
        requests.write();
        for records in 1..=4 {
            assert!(matches!(requests.in_flight.front(), Some((_, number)) if number == records));
            requests.in_flight.pop_front();
        }
    }

    #[test]
    fn the_bytes_in_flight_are_bounded() {
        let operations = vec![put(1, 1, 600_000), put(2, 1, 600_000), put(3, 1, 1), get(4)];
        let mut requests = Requests::new(operations);
        assert_eq!(requests.write(), ["SET", "SET"]);
        assert!(requests.write().is_empty());
        requests.in_flight.pop_front();
        assert_eq!(requests.write(), ["SET", "GET"]);
        assert_eq!(requests.len(), 3);
    }

    #[test]
    fn a_listing_starts_over_after_a_reset() {
        let reindex = Reindex::new(ScanPosition::default(), &no_index(), ReindexMode::DryRun);
        let mut requests = Requests::new(vec![Operation::Reindex(reindex)]);
        let listed = key(&[&number(1)]).redis_key();
        let listed = std::str::from_utf8(listed.as_bytes()).unwrap();
        assert_eq!(requests.write(), ["SCAN"]);
        let (request, _) = requests.in_flight.front().unwrap();
        let replies = Replies::new(vec![page(0, &[listed])]);
        assert!(matches!(request.operation.read(replies), Ok(Step::Again)));
        requests.requeue_front();
        assert_eq!(requests.write(), ["PTTL"]);
        requests.requeue_all();
        requests.backlog.reset();
        assert_eq!(requests.write(), ["SCAN"]);
    }

    #[test]
    fn bounds_are_exact() {
        let mut requests = Requests::new(vec![get(1), get(2), get(3), get(4)]);
        requests.in_flight.bytes = MAX_BYTES;
        assert!(requests.write().is_empty());
        requests.in_flight.bytes = MAX_BYTES - 1;
        assert_eq!(requests.write(), ["GET"]);
        let bytes = requests.in_flight.bytes + 1 - MAX_BYTES;
        requests.in_flight.bytes = 0;
        assert_eq!(requests.write_batch(bytes), ["GET"]);
        assert_eq!(requests.write_batch(bytes + 1), ["GET", "GET"]);
    }

    #[test]
    fn a_request_that_may_be_the_reason_for_a_loss_is_sent_alone() {
        let mut requests = Requests::new(vec![get(1), get(2), get(3)]);
        let mut suspect = requests.backlog.take(1).unwrap();
        suspect.request.count_loss();
        requests.backlog.requeue(suspect);
        for remaining in [2, 1, 0] {
            assert_eq!(requests.write(), ["GET"]);
            assert!(requests.write().is_empty());
            assert_eq!(requests.backlog.len(), remaining);
            requests.in_flight.pop_front();
        }
    }

    #[test]
    fn batches_keep_the_order_of_writes() {
        let operations = vec![long_put(), put(4, 1, 1), get(1), put(5, 1, 1), get(2)];
        let mut requests = Requests::new(operations);
        assert_eq!(requests.write_batch(1).len(), 512);
        assert_eq!(requests.backlog_numbers(), [1, 2, 3, 4]);
        // Past the first of the puts that are held up.
        assert_eq!(requests.write_batch(1), ["GET"]);
        assert_eq!(requests.backlog_numbers(), [1, 3, 4]);
        assert_eq!(requests.write_batch(1), ["GET"]);
        assert!(requests.write_batch(1).is_empty());
        assert_eq!(requests.backlog_numbers(), [1, 3]);
    }

    #[test]
    fn only_the_backlog_can_be_filtered() {
        let mut requests = Requests::new(vec![put(1, 1, 1), get(2), put(3, 1, 1)]);
        let backlog = &mut requests.backlog;
        backlog.retain(|request| request.operation.is_write().then_some(request));
        assert_eq!(requests.write(), ["SET", "SET"]);
        requests.backlog.retain(|_| None);
        assert_eq!(requests.len(), 2);
        assert!(requests.in_flight.last_deadline().is_some());
    }
}
