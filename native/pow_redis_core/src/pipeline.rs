//! The requests of a worker: those that are to be sent, and those whose replies are to come.

use std::collections::VecDeque;
use std::time::Instant;

use crate::clock::Clock;
use crate::commands::Commands;
use crate::operation::Round;
use crate::request::Request;
use crate::upkeep::Upkeep;

/// Most requests at a time.
const MAX_REQUESTS: usize = 4_096;
/// Nothing is sent while so many bytes of commands are under way.
const MAX_BYTES: usize = 1 << 20;

/// Requests in the order in which they were taken.
///
/// Invariant: replies come in the order of `sent`.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    waiting: VecDeque<Numbered>,
    sent: VecDeque<Sent>,
    /// How many requests were taken.
    taken: u64,
    /// How long the commands are that are under way.
    bytes: usize,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    request: Request,
}

#[derive(Debug)]
struct Sent {
    numbered: Numbered,
    replies: usize,
    bytes: usize,
    at: Instant,
}

impl Pipeline {
    /// Takes a request, behind all others.
    pub(crate) fn push(&mut self, request: Request) {
        let number = self.taken;
        self.taken += 1;
        self.waiting.push_back(Numbered { number, request });
    }

    /// How many requests there are.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.sent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no more are to be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MAX_REQUESTS
    }

    /// Whether replies are to come.
    pub(crate) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// All requests.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        let sent = self.sent.iter().map(|sent| &sent.numbered);
        sent.chain(&self.waiting).map(|numbered| &numbered.request)
    }

    /// The last time at which a reply is waited for.
    pub(crate) fn last_deadline(&self) -> Option<Instant> {
        let deadlines = self
            .sent
            .iter()
            .map(|sent| sent.numbered.request.deadline());
        deadlines.max()
    }

    /// Appends the commands of what may be sent now, up to about so many bytes.
    pub(crate) fn write(
        &mut self,
        clock: Clock,
        piece: usize,
        upkeep: &mut Upkeep,
        commands: &mut Commands,
    ) {
        let now_ms = clock.now_ms();
        let at = Instant::now();
        // A write of several rounds holds up those behind it, so that they keep their order.
        let mut writes_wait = self.sent.iter().any(Sent::is_long_write);
        let mut passed = 0;
        for _ in 0..self.waiting.len() {
            if self.bytes >= MAX_BYTES || commands.as_bytes().len() >= piece {
                break;
            }
            let Some(mut numbered) = self.waiting.pop_front() else {
                break;
            };
            let operation = &mut numbered.request.operation;
            if operation.is_write() && writes_wait {
                self.waiting.push_back(numbered);
                passed += 1;
                continue;
            }
            writes_wait |= operation.is_long_write();
            let before = (commands.len(), commands.as_bytes().len());
            operation.write(&mut Round {
                commands,
                now_ms,
                round_trip: clock.round_trip(),
                upkeep,
            });
            let bytes = commands.as_bytes().len() - before.1;
            self.bytes += bytes;
            self.sent.push_back(Sent {
                numbered,
                replies: commands.len() - before.0,
                bytes,
                at,
            });
        }
        // Those that were passed over go back in front of those that were not reached.
        self.waiting.rotate_right(passed);
    }

    /// The request whose replies come next, and how many these are.
    pub(crate) fn front(&mut self) -> Option<(&mut Request, usize)> {
        let sent = self.sent.front_mut()?;
        Some((&mut sent.numbered.request, sent.replies))
    }

    /// When that request was sent.
    pub(crate) fn front_sent_at(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.at)
    }

    /// Takes that request out: its replies were read.
    pub(crate) fn pop_front(&mut self) -> Option<Request> {
        self.take_sent().map(|numbered| numbered.request)
    }

    /// Its replies were read, and it is to be sent again.
    pub(crate) fn repeat_front(&mut self) {
        if let Some(numbered) = self.take_sent() {
            self.wait(numbered);
        }
    }

    /// No reply will come: what was sent is to be sent again. How many requests that are.
    pub(crate) fn repeat_all(&mut self) -> usize {
        let sent = self.sent.len();
        while self.has_sent() {
            self.repeat_front();
        }
        sent
    }

    /// Prepares all for another connection.
    pub(crate) fn restart(&mut self) {
        for numbered in &mut self.waiting {
            numbered.request.operation.restart();
        }
    }

    /// Keeps of what is to be sent what is given back.
    pub(crate) fn retain_waiting(&mut self, mut keep: impl FnMut(Request) -> Option<Request>) {
        for _ in 0..self.waiting.len() {
            if let Some(Numbered { number, request }) = self.waiting.pop_front() {
                let kept = keep(request).map(|request| Numbered { number, request });
                self.waiting.extend(kept);
            }
        }
    }

    fn take_sent(&mut self) -> Option<Numbered> {
        let sent = self.sent.pop_front()?;
        self.bytes -= sent.bytes;
        Some(sent.numbered)
    }

    /// Back to its place: writes keep their order.
    fn wait(&mut self, numbered: Numbered) {
        let place = self
            .waiting
            .partition_point(|other| other.number < numbered.number);
        self.waiting.insert(place, numbered);
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
    use crate::commands::Replies;
    use crate::index::Life;
    use crate::operation::script::{key, lines, okays};
    use crate::operation::{Get, Layout, Operation, Put, Step};
    use std::time::Duration;

    /// A small integer as a term.
    fn number(number: u8) -> [u8; 2] {
        [97, number]
    }

    fn get(of: u8) -> Operation {
        Operation::Get(Get::new(key(&[&number(of)])))
    }

    /// Puts so many records with values of so many bytes.
    fn put(of: u8, records: u8, bytes: usize) -> Operation {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        let value = [&[131, 109], &length[..], &vec![0; bytes]].concat();
        let records =
            (0..records).map(|record| (key(&[&number(of), &number(record)]), value.clone()));
        let put = Put::new(records.collect(), Life::Infinite, Layout::Plain);
        Operation::Put(put.unwrap())
    }

    /// A put of 768 records: 512 are a round.
    fn long_put() -> Operation {
        let mut records = Vec::new();
        for of in 0..3 {
            for record in 0..=255 {
                records.push((key(&[&number(of), &number(record)]), vec![131, 97, 0]));
            }
        }
        Operation::Put(Put::new(records, Life::Infinite, Layout::Plain).unwrap())
    }

    fn pipeline(operations: Vec<Operation>) -> Pipeline {
        let mut pipeline = Pipeline::default();
        for operation in operations {
            let deadline = Instant::now() + Duration::from_secs(60);
            pipeline.push(Request::new(operation, deadline, Box::new(|_| ())));
        }
        pipeline
    }

    /// The names of the commands that are sent.
    fn write(pipeline: &mut Pipeline) -> Vec<String> {
        write_piece(pipeline, usize::MAX)
    }

    fn write_piece(pipeline: &mut Pipeline, piece: usize) -> Vec<String> {
        let mut commands = Commands::new();
        let clock = Clock::local(Duration::ZERO);
        pipeline.write(clock, piece, &mut Upkeep::default(), &mut commands);
        let name = |line: &String| line.split(' ').next().unwrap().to_owned();
        lines(commands.as_bytes()).iter().map(name).collect()
    }

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let mut pipeline = pipeline(vec![get(1), put(2, 1, 1)]);
        assert_eq!(write(&mut pipeline), ["GET", "SET"]);
        assert!(pipeline.has_sent() && write(&mut pipeline).is_empty());
        assert!(matches!(pipeline.front(), Some((_, 1))));
        assert!(pipeline.pop_front().is_some());
        assert_eq!(pipeline.len(), 1);
        assert_eq!(pipeline.repeat_all(), 1);
        assert!(!pipeline.has_sent());
        assert_eq!(write(&mut pipeline), ["SET"]);
    }

    #[test]
    fn a_write_of_several_rounds_holds_up_those_behind_it() {
        let mut pipeline = pipeline(vec![long_put(), put(4, 1, 1), get(1)]);
        let first = write(&mut pipeline);
        assert_eq!((first.len(), first.last().unwrap().as_str()), (513, "GET"));
        assert!(write(&mut pipeline).is_empty());

        let (request, replies) = pipeline.front().unwrap();
        let step = request.operation.read(Replies::new(okays(replies)));
        assert!(matches!(step, Ok(Step::Again)));
        pipeline.repeat_front();
        // The rest of the first, and the second.
        assert_eq!(write(&mut pipeline).len(), 256 + 1);
    }

    #[test]
    fn what_is_repeated_keeps_its_place() {
        let operations = vec![put(1, 1, 1), put(2, 2, 1), put(3, 3, 1), put(4, 4, 1)];
        let mut pipeline = pipeline(operations);
        assert_eq!(write(&mut pipeline).len(), 1 + 2 + 3 + 4);
        for _ in 0..3 {
            pipeline.repeat_front();
        }
        write(&mut pipeline);
        assert!(matches!(pipeline.front(), Some((_, 4))), "sent before");
        assert_eq!(pipeline.repeat_all(), 4);
        write(&mut pipeline);
        for records in 1..=4 {
            assert!(matches!(pipeline.front(), Some((_, number)) if number == records));
            pipeline.pop_front();
        }
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let operations = vec![put(1, 1, 600_000), put(2, 1, 600_000), put(3, 1, 1), get(4)];
        let mut pipeline = pipeline(operations);
        assert_eq!(write(&mut pipeline), ["SET", "SET"]);
        assert!(write(&mut pipeline).is_empty());
        pipeline.pop_front();
        assert_eq!(write(&mut pipeline), ["SET", "GET"]);
        assert_eq!(pipeline.requests().count(), 3);
    }

    #[test]
    fn what_is_sent_in_pieces_keeps_its_order() {
        let operations = vec![long_put(), put(4, 1, 1), get(1), put(5, 1, 1), get(2)];
        let mut pipeline = pipeline(operations);
        let waiting = |pipeline: &Pipeline| -> Vec<u64> {
            let numbers = pipeline.waiting.iter().map(|numbered| numbered.number);
            numbers.collect()
        };
        assert_eq!(write_piece(&mut pipeline, 1).len(), 512);
        assert_eq!(waiting(&pipeline), [1, 2, 3, 4]);
        // Past the first of the puts that wait.
        assert_eq!(write_piece(&mut pipeline, 1), ["GET"]);
        assert_eq!(waiting(&pipeline), [1, 3, 4]);
        assert_eq!(write_piece(&mut pipeline, 1), ["GET"]);
        assert!(write_piece(&mut pipeline, 1).is_empty());
        assert_eq!(waiting(&pipeline), [1, 3]);
    }

    #[test]
    fn what_waits_is_sorted_out() {
        let mut pipeline = pipeline(vec![put(1, 1, 1), get(2), put(3, 1, 1)]);
        pipeline.retain_waiting(|request| request.operation.is_write().then_some(request));
        assert_eq!(write(&mut pipeline), ["SET", "SET"]);
        // What was sent is not meant.
        pipeline.retain_waiting(|_| None);
        assert_eq!(pipeline.len(), 2);
        assert!(pipeline.last_deadline().is_some());
    }
}
